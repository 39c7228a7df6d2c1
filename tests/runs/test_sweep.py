import os
import threading
from pathlib import Path

import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from steeldefect.runs import sweep
from steeldefect.runs.errors import Held, UserError
from steeldefect.runs.identity import digest
from steeldefect.runs.progress import _span
from steeldefect.runs.store import Store
from steeldefect.runs.sweep import CellFailed, SweepPosition, position, put_off, sweep_size
from tests.runs.holder import holder


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


CELL = {"stage": "cell", "n": 1}


def make(root: Path, made: list[str]) -> None:
    with Store(root).write("cells", CELL) as work:
        made.append("found finished" if work is None else "made here")


@pytest.mark.parametrize(("finish", "expected"), [(True, "found finished"), (False, "made here")])
def test_a_cell_that_another_process_holds_is_come_back_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finish: bool, expected: str
) -> None:
    """The other cells first; then it is skipped where its maker has finished, and taken over where that one died."""
    monkeypatch.setattr(sweep, "SECONDS_BETWEEN_VISITS", 0.05)
    position_of, made = SweepPosition(), []
    position_of.on_multirun_start(config({"mix": "org100,org20"}))
    with holder(tmp_path, CELL, finish) as (process, release):
        with pytest.raises(Held, match=f"is being made by process {process.pid}"):
            make(tmp_path, made)
        assert put_off(lambda: make(tmp_path, made)) and made == []
        done = JobReturn(status=JobStatus.COMPLETED)
        position_of.on_job_end(config(None, number=0), done)
        assert made == []
        threading.Timer(0.5, release.set).start()
        position_of.on_job_end(config(None, number=1), done)
        assert made == [expected] and done.status == JobStatus.COMPLETED
    assert Store(tmp_path).finished("cells", digest(CELL))
    position_of.on_multirun_end(config(None))


def test_what_fails_at_the_second_visit_fails_the_sweep() -> None:
    def broken() -> None:
        raise UserError("no bank")

    position_of = SweepPosition()
    position_of.on_multirun_start(config({"mix": "org100,org20"}))
    assert put_off(broken)
    done = JobReturn(status=JobStatus.COMPLETED)
    position_of.on_job_end(config(None, number=1), done)
    assert done.status == JobStatus.FAILED
    with pytest.raises(CellFailed, match="no bank"):
        _ = done.return_value
    position_of.on_multirun_end(config(None))


def test_outside_a_sweep_nothing_is_put_off() -> None:
    assert not put_off(lambda: None)
