import os

from omegaconf import OmegaConf

from steeldefect.runs.progress import _span
from steeldefect.runs.sweep import SweepPosition, position, sweep_size


def config(params: dict | None, *overrides: str, number: int = 0):
    return OmegaConf.create(
        {
            "hydra": {
                "sweeper": {"params": params},
                "overrides": {"task": list(overrides)},
                "job": {"num": number},
                "sweep": {"dir": "."},
            }
        }
    )


def test_the_grid_is_what_is_declared_and_what_the_command_line_sets_in_its_place() -> None:
    declared = {"classifier": "a,b,c,d", "mix": "org100,org20,org0"}
    assert sweep_size(config(declared)) == 12
    assert sweep_size(config(declared, "replicate=0,1")) == 24
    assert sweep_size(config(declared, "classifier=a", "replicate=0,1")) == 6
    assert sweep_size(config(None, "mix=org20")) == 1
    assert sweep_size(config(None, "replicate=range(0,6)")) == 6


def test_each_cell_knows_its_place() -> None:
    sweep = SweepPosition()
    sweep.on_multirun_start(config({"mix": "org100,org20"}))
    sweep.on_job_start(config(None, number=1))
    assert position() == "[2/2] "
    sweep.on_multirun_end(config(None))
    assert position() == "" and "STEELDEFECT_SWEEP" not in os.environ


def test_times_left_are_readable() -> None:
    assert _span(59.4) == "59 s" and _span(61) == "1 min 01 s" and _span(3600) == "60 min 00 s"
