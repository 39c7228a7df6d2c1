"""A run that is told to stop writes a checkpoint, says so by its exit code, and goes on to the same result."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lightning import LightningModule

from steeldefect.classify.module import ClassifierModule
from steeldefect.gan.module import AdversarialModule
from steeldefect.runs.signals import Interrupted, SafePoint, stoppable
from steeldefect.runs.training import LAST
from tests.conftest import ROOT
from tests.stages import OPTIONS, hashes, make

Copy = Callable[..., Path]


@pytest.fixture(autouse=True)
def as_in_a_fresh_process() -> Iterator[None]:
    """The handlers of a process that a shell starts, whatever a Trainer of an earlier test has left."""
    defaults = {
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGINT: signal.default_int_handler,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, handler) for number, handler in defaults.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def signal_in_update(patch: pytest.MonkeyPatch, module: type[LightningModule], number: int, update: int) -> None:
    """Let the kernel send this process a signal in the middle of the given update, counted from 1."""
    step, count = module.training_step, iter(range(1, 10_000))

    def training_step(self, batch, batch_idx):
        if next(count) == update:
            os.kill(os.getpid(), number)
        return step(self, batch, batch_idx)

    patch.setattr(module, "training_step", training_step)


def stopped(
    patch: pytest.MonkeyPatch, module: type[LightningModule], update: int, stage: str, artifacts: Path, *overrides: str
) -> None:
    with patch.context() as disturbed, pytest.raises(Interrupted) as stop, stoppable():
        signal_in_update(disturbed, module, signal.SIGTERM, update)
        make(stage, artifacts, *overrides)
    assert stop.value.code == 128 + signal.SIGTERM


# 36 training images in batches of 16: an epoch is 3 updates, the fourth and fifth are the middle of the second
@pytest.mark.parametrize("update", [1, 3, 5, 6])
def test_a_generator_stopped_in_any_update_ends_in_the_same_bytes(
    copied: Copy, made: Path, monkeypatch: pytest.MonkeyPatch, update: int
) -> None:
    artifacts = copied("gans", "banks", "cells", "initials")
    stopped(monkeypatch, AdversarialModule, update, "train_gan", artifacts)
    (partial,) = artifacts.glob("gans/.*.partial")
    assert (partial / LAST).exists() and (partial / "running.json").exists()
    assert not (partial / "failed.json").exists()
    make("train_gan", artifacts)
    assert hashes(artifacts, "gans") == hashes(made, "gans")


# two updates of phase `initial`, then four of `retrain`
@pytest.mark.parametrize("update", [1, 2, 4, 6])
def test_a_cell_stopped_in_either_phase_ends_in_the_same_record(
    copied: Copy, made: Path, monkeypatch: pytest.MonkeyPatch, update: int
) -> None:
    artifacts = copied("cells", "initials")
    stopped(monkeypatch, ClassifierModule, update, "train_classifier", artifacts)
    assert len(list(artifacts.glob(f"{'initials' if update <= 2 else 'cells'}/.*.partial/{LAST}"))) == 1
    make("train_classifier", artifacts)
    assert hashes(artifacts, "cells") == hashes(made, "cells")
    assert hashes(artifacts, "initials") == hashes(made, "initials")


@pytest.mark.parametrize("update", [1, 4])
def test_an_augmented_cell_goes_on_with_the_transforms_that_it_would_have_drawn(
    copied: Copy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, update: int
) -> None:
    """To the bytes of its weights: the metrics of a few test images would forgive a batch that was augmented otherwise."""
    own = ("augment=classical", "mix=org100", "keep_weights=true", "phases.retrain.updates=6")
    straight = copied("cells").rename(tmp_path / "straight")
    make("train_classifier", straight, *own)
    artifacts = copied("cells")
    stopped(monkeypatch, ClassifierModule, update, "train_classifier", artifacts, *own)
    make("train_classifier", artifacts, *own)
    assert hashes(artifacts, "cells")["weights.pt"] == hashes(straight, "cells")["weights.pt"]


def test_a_launcher_s_own_handler_is_called_once_the_checkpoint_is_there(
    copied: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As submitit's: SIGTERM is swallowed, SIGUSR2 requeues the job and leaves."""
    artifacts = copied("gans")
    seen: list[tuple[int, bool]] = []

    def handler(number: int, frame: object) -> None:
        seen.append((number, bool(list(artifacts.glob(f"gans/.*.partial/{LAST}")))))
        if number == signal.SIGUSR2:
            raise SystemExit(7)

    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGUSR2)}
    try:
        with monkeypatch.context() as disturbed, pytest.raises(SystemExit) as left:
            signal_in_update(disturbed, AdversarialModule, signal.SIGTERM, 1)
            signal_in_update(disturbed, AdversarialModule, signal.SIGUSR2, 2)
            make("train_gan", artifacts)
        assert left.value.code == 7
        assert seen == [(signal.SIGTERM, True), (signal.SIGUSR2, True)]
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def test_the_same_signal_twice_is_not_kept_waiting() -> None:
    with pytest.raises(Interrupted), stoppable(), SafePoint() as point:
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.01)  # Python calls a handler a little later
            assert point.waiting == [signal.SIGINT]


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable(), SafePoint():
            signal.raise_signal(signal.SIGHUP)
            time.sleep(0.01)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_sweep_that_is_stopped_starts_no_other_cell(tmp_path: Path, number: int, code: int) -> None:
    script = str(ROOT / "experiments" / "train_gan.py")
    sweep = [script, "-m", "replicate=0,1", *OPTIONS, "gan.epochs=2000", f"artifacts={tmp_path / 'a'}"]
    process = subprocess.Popen([sys.executable, *sweep], cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("a/gans/.*.partial/sheet_00002.png")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    out, err = process.communicate(timeout=300)
    said = (out + err).decode()
    assert process.returncode == code, said
    assert f"stopped by {signal.Signals(number).name}; the same command again goes on" in said
    assert "Traceback" not in said
    (checkpoint,) = tmp_path.glob(f"a/gans/.*.partial/{LAST}")
    assert checkpoint.stat().st_size > 0
