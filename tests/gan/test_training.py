"""Real, tiny adversarial runs on the rendered data set."""

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Callback, LightningModule, Trainer

from steeldefect.data.datamodule import MixDataModule
from steeldefect.gan.module import CURVES, AdversarialModule
from steeldefect.gan.training import train_gan
from steeldefect.runs.context import Context
from steeldefect.runs.errors import UserError
from steeldefect.runs.prepare import prepare
from steeldefect.runs.settings import plain
from steeldefect.runs.training import LAST, fit, seed_everything
from tests.conftest import Compose


class Stop(Callback):
    """Ctrl-C in the middle of an update (counted from 1)."""

    def __init__(self, update: int) -> None:
        self.update = update

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 2 * (self.update - 1):
            signal.raise_signal(signal.SIGINT)


def run(context: Context, folder: Path, epochs: int, limit: str = "max_epochs", stop: int = 0) -> AdversarialModule:
    """`epochs` in all, or steps; goes on from the checkpoint in `folder` where there is one."""
    folder.mkdir(exist_ok=True)
    gan = context.settings["gan"]
    seed_everything(1)
    module = AdversarialModule(gan, 6)
    part = (context.images.images[context.real], context.images.labels[context.real])
    one_class = gan["conditioning"] == "per_class"
    data = MixDataModule(part, None, gan["image_size"], gan["batch_size"], 2, one_class_batches=one_class)
    limits = {limit: epochs} | ({} if limit == "max_epochs" else {"max_epochs": -1})
    fit(module, data, context.settings, folder, "32-true", 3, "test", [], limits, [Stop(stop)] if stop else None)
    return module


@pytest.mark.parametrize("conditioning", ["conditional", "per_class"])
def test_two_epochs_stopped_and_resumed_equal_three_straight(tiny: Compose, tmp_path: Path, conditioning: str) -> None:
    context = prepare(tiny("train_gan", "trainer.checkpoint_seconds=0", f"gan.conditioning={conditioning}"))
    straight = run(context, tmp_path / "straight", 3)
    stopped = run(context, tmp_path / "stopped", 2)
    assert not equal(straight, stopped)
    assert (tmp_path / "stopped" / LAST).exists()
    resumed = run(context, tmp_path / "stopped", 3)
    assert equal(straight, resumed)
    assert straight.history == resumed.history
    assert len(resumed.history) == 3


def test_progress_counts_updates_of_the_generator(
    tiny: Compose, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("steeldefect.runs.progress.SECONDS_BETWEEN_LINES", 0.0)
    with caplog.at_level("INFO"):
        train_gan(prepare(tiny("train_gan", "gan.updates=3")))
    said = [record.getMessage() for record in caplog.records if ": update " in record.getMessage()]
    assert [line.split(": update ")[1].split(",")[0] for line in said] == ["1 of 3", "2 of 3", "3 of 3"]


def test_a_budget_far_from_the_scale_s_is_told(tiny: Compose, caplog: pytest.LogCaptureFixture) -> None:
    train_gan(prepare(tiny("train_gan", "gan.epochs=1", "gan.batch_size=64")))
    assert "give 1 updates in 1 epochs; scale=smoke was made for about 6: gan.updates=6" in caplog.text
    caplog.clear()
    train_gan(prepare(tiny("train_gan", "gan.updates=6")))
    assert "updates in" not in caplog.text


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.compile=reduce-overhead"], r"trainer\.compile=reduce-overhead: .* use default for a generator"),
        (
            ["gan=projected", "trainer.sync_batchnorm=true"],
            r"trainer\.sync_batchnorm=true: cannot be had with gan=projected",
        ),
    ],
)
def test_what_a_gan_cannot_have_is_refused(tiny: Compose, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        train_gan(prepare(tiny("train_gan", *overrides)))


@pytest.mark.parametrize("conditioning", ["conditional", "per_class"])
@pytest.mark.parametrize("limit", ["max_epochs", "max_steps"])
@pytest.mark.parametrize("place", ["middle", "end"])
def test_a_run_stopped_anywhere_equals_one_straight(
    tiny: Compose, tmp_path: Path, conditioning: str, limit: str, place: str
) -> None:
    """In the middle of an epoch and at its end, limited by epochs and by updates; rows of an epoch are written once."""
    context = prepare(tiny("train_gan", "gan.batch_size=4", f"gan.conditioning={conditioning}"))
    straight = run(context, tmp_path / "straight", 3)
    assert len(straight.history) == 3
    updates = straight.trainer.global_step // 2
    stop = updates // 3 if place == "end" else updates // 3 - 2
    length = 3 if limit == "max_epochs" else 2 * updates
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run(context, tmp_path / "stopped", length, limit, stop)
    resumed = run(context, tmp_path / "stopped", length, limit)
    assert equal(straight, resumed) and straight.history == resumed.history


def test_the_last_row_is_the_mean_of_its_own_updates(
    tiny: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The losses of both networks set to 1: any mean of them is 1, also of an epoch of one update."""
    original = AdversarialModule.training_step

    def counted(self: AdversarialModule, batch: Any, batch_idx: int) -> None:
        before = self.sums.clone()
        original(self, batch, batch_idx)
        self.sums.copy_(before + 1)

    monkeypatch.setattr(AdversarialModule, "training_step", counted)
    context = prepare(tiny("train_gan", "gan.batch_size=4"))
    updates = len(context.real) // 4 + 2
    rows = run(context, tmp_path / "run", 2 * updates, "max_steps").history
    assert len(rows) == 2 and {row[name] for row in rows for name in CURVES} == {1.0}


def equal(a: AdversarialModule, b: AdversarialModule) -> bool:
    other = b.state_dict()
    return all(torch.equal(value, other[name]) for name, value in a.state_dict().items())


def test_one_class_batches_hold_one_class(tiny: Compose) -> None:
    context = prepare(tiny("train_gan"))
    labels = context.images.labels[context.real]
    data = MixDataModule((context.images.images[context.real], labels), None, 16, 4, 0, one_class_batches=True)
    loader = data.train_dataloader()
    seen = [batch.numpy() for batch in loader]
    assert all(len(np.unique(labels[batch])) == 1 for batch in seen)
    assert sorted(np.concatenate(seen)) == list(range(len(labels)))
    assert len(loader) == len(seen)


@pytest.mark.parametrize("loss", ["non_saturating", "minimax"])
def test_a_run_leaves_weights_curves_and_sheets_and_is_not_run_twice(tiny: Compose, loss: str) -> None:
    context = prepare(tiny("train_gan", f"gan.loss={loss}"))
    identifier = train_gan(context)
    folder = context.store.folder("gans", identifier)
    names = {path.name for path in folder.iterdir()}
    assert names == {
        *("manifest.json", "generator.pt", "discriminator.pt", "history.csv", "sheet_00001.png", "sheet_00002.png")
    }
    manifest = context.store.manifest("gans", identifier)
    assert manifest["summary"]["updates"] == 2 * -(-len(context.real) // 16)
    assert manifest["identity"]["gan"]["loss"] == loss
    before = (folder / "generator.pt").stat().st_mtime_ns
    assert train_gan(context) == identifier
    assert (folder / "generator.pt").stat().st_mtime_ns == before


def test_a_number_of_updates_can_be_asked_for(tiny: Compose) -> None:
    context = prepare(tiny("train_gan", "gan.updates=3"))
    manifest = context.store.manifest("gans", train_gan(context))
    assert manifest["summary"]["updates"] == 3


def test_the_average_lags_behind_the_generator(tiny: Compose, tmp_path: Path) -> None:
    context = prepare(tiny("train_gan", "gan.ema_decay=0.5"))
    first = run(context, tmp_path / "one", 1)
    own, average = first.generator.state_dict(), first.average.state_dict()
    moved = [name for name in own if own[name].is_floating_point() and not torch.equal(own[name], average[name])]
    assert len(moved) > len(own) / 2


def test_the_average_takes_a_tenth_of_what_is_new_at_a_decay_of_nine_tenths(tiny: Compose) -> None:
    module = AdversarialModule({**plain(tiny("train_gan"))["gan"], "ema_decay": 0.9}, 3)
    weight, average = next(module.generator.parameters()), next(module.average.parameters())
    before = weight.detach().clone()
    weight.data.add_(1.0)
    module._update_average()
    torch.testing.assert_close(average, before + 0.1)


def test_a_short_run_forgets_where_it_began(tiny: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few updates lower the decay, so that the bank is drawn from what was learnt."""
    seen = []
    original = AdversarialModule._update_average

    def watched(self: AdversarialModule) -> None:
        seen.append(self.gan["ema_decay"])
        original(self)

    monkeypatch.setattr(AdversarialModule, "_update_average", watched)
    train_gan(prepare(tiny("train_gan", "gan.ema_decay=0.999", "gan.updates=4")))
    assert len(seen) == 4 and all(decay**4 == pytest.approx(0.05, abs=1e-4) for decay in seen)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_update(tiny: Compose, tmp_path: Path) -> None:
    context = prepare(tiny("train_gan", "gan.optimizer.lr=1e30", "gan.epochs=3", "trainer.checkpoint_seconds=0"))
    with pytest.raises(UserError, match=r"not finite at update \d+ .*indices"):
        run(context, tmp_path / "bad", 3)


def test_precision_bf16_runs_the_same_path(tiny: Compose) -> None:
    context = prepare(tiny("train_gan", "precision=bf16-mixed"))
    history: dict[str, Any] = context.store.manifest("gans", train_gan(context))["summary"]["final"]
    assert all(np.isfinite(value) for value in history.values())
