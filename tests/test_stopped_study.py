"""A study stopped ten times at random points against one that ran through: pytest -m slow tests/test_stopped_study.py"""

import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.test_verbs import cells, command, environment, same_but_for_time, tables

KILLS = 10
# a checkpoint after every epoch, so that there is something to go on from
STUDY = [
    ["train_gan", "-m", "replicate=0,1", "gan.epochs=40", "trainer.checkpoint_seconds=0"],
    ["synthesize", "-m", "replicate=0,1", "gan.epochs=40"],
    [
        *("train_classifier", "-m", "experiment=controls", "replicate=0,1", "gan.epochs=40"),
        *("phases.retrain.updates=60", "trainer.checkpoint_seconds=0"),
    ],
]


def made(artifacts: Path) -> set[Path]:
    """What is begun or finished in the store."""
    return {*artifacts.glob("[gbic]*s/.*.partial"), *artifacts.glob("[gbic]*s/*/manifest.json")}


def run(step: list[str], artifacts: Path, rng: random.Random | None = None) -> bool:
    """Whether the step came to its end; with `rng` it is killed, as by a power cut, soon after it has made something."""
    process = subprocess.Popen(
        command(step[0], artifacts, *step[1:]), cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL
    )
    if rng is not None:
        before = made(artifacts)
        while process.poll() is None and made(artifacts) == before:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 1.5))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return False
    assert process.wait() == 0
    return True


@pytest.mark.slow
def test_a_study_stopped_ten_times_gives_the_same_tables(tmp_path: Path) -> None:
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    for step in STUDY:
        assert run(step, straight)
    rng, kills = random.Random(0), 0
    # each time from the start, as a user gives the whole command again
    while kills < KILLS and not all(run(step, stopped, rng) for step in STUDY):
        kills += 1
    for step in STUDY:
        assert run(step, stopped)
    assert kills == KILLS
    assert same_but_for_time(cells(stopped)) == same_but_for_time(cells(straight))
    every = "[org100, org20, org0, classical, shuffled]"
    assert tables(stopped, tmp_path / "a", every) == tables(straight, tmp_path / "b", every)
