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


def run(step: list[str], artifacts: Path, stop_after: float | None) -> bool:
    """Whether the step came to its end; else it was killed, as by a power cut."""
    process = subprocess.Popen(
        command(step[0], artifacts, *step[1:]), cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL
    )
    try:
        assert process.wait(timeout=stop_after) == 0
        return True
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return False


@pytest.mark.slow
def test_a_study_stopped_ten_times_gives_the_same_tables(tmp_path: Path) -> None:
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    seconds = []
    for step in STUDY:
        started = time.monotonic()
        assert run(step, straight, None)
        seconds.append(time.monotonic() - started)
    rng, kills = random.Random(0), 0
    while kills < KILLS:
        # each time from the start, as a user gives the whole command again
        point = rng.uniform(0, sum(seconds))
        for step in STUDY:
            started = time.monotonic()
            if not run(step, stopped, max(point, 0.01)):
                kills += 1
                break
            point -= time.monotonic() - started
        else:
            break  # the study was through before its time; what is left of the ten has nothing to stop
    for step in STUDY:
        assert run(step, stopped, None)
    assert kills >= KILLS // 2
    assert same_but_for_time(cells(stopped)) == same_but_for_time(cells(straight))
    every = "[org100, org20, org0, classical, shuffled]"
    assert tables(stopped, tmp_path / "a", every) == tables(straight, tmp_path / "b", every)
