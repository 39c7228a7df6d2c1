"""Quality on a schedule: the training does not notice it, the best snapshot is the one with the lowest KID."""

import csv
from pathlib import Path

import pytest
import torch
from lightning import Callback

from steeldefect.data.datamodule import MixDataModule
from steeldefect.gan.module import AdversarialModule
from steeldefect.gan.networks import build_generator
from steeldefect.gan.probe import LAST_GOOD, LastGood, QualityProbe
from steeldefect.gan.quality import real_pool
from steeldefect.gan.sampling import settled
from steeldefect.gan.training import train_gan
from steeldefect.runs.context import Context
from steeldefect.runs.errors import UserError
from steeldefect.runs.prepare import prepare
from steeldefect.runs.training import fit, seed_everything
from tests.conftest import Compose

ENOUGH = ["dataset.per_class=24", "split.validation_fraction=0.3", "quality.feature_size=32", "precision=32-true"]


def run(context: Context, folder: Path, epochs: int, *callbacks: Callback) -> AdversarialModule:
    folder.mkdir(exist_ok=True)
    gan = context.settings["gan"]
    seed_everything(1)
    module = AdversarialModule(gan, 6)
    part = (context.images.images[context.real], context.images.labels[context.real])
    data = MixDataModule(part, None, gan["image_size"], gan["batch_size"], 2)
    limits = {"max_epochs": epochs}
    fit(module, data, context.settings, folder, "32-true", 3, "test", [], limits, list(callbacks))
    return module


def probe(context: Context, folder: Path) -> QualityProbe:
    folder.mkdir(exist_ok=True)
    reference, real = (real_pool(context, part, thin=True) for part in (context.split.validation, context.real))
    return QualityProbe(folder, context.images.classes, context.settings["quality"], reference, real)


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, b[name]) for name, value in a.items())


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_training_goes_the_same_way_with_and_without_the_probe_and_when_resumed(
    tiny: Compose, tmp_path: Path
) -> None:
    overrides = [*ENOUGH, "quality.every=1", "quality.snapshot=best_kid", "trainer.checkpoint_seconds=0"]
    context = prepare(tiny("train_gan", *overrides))
    without = run(context, tmp_path / "without", 3)
    watching = probe(context, tmp_path / "with")
    watched = run(context, tmp_path / "with", 3, watching)
    assert equal(without.state_dict(), watched.state_dict())
    run(context, tmp_path / "resumed", 2, probe(context, tmp_path / "resumed"))
    resumed_probe = probe(context, tmp_path / "resumed")
    resumed = run(context, tmp_path / "resumed", 3, resumed_probe)
    assert equal(without.state_dict(), resumed.state_dict())
    assert (tmp_path / "resumed" / "quality.csv").read_text() == (tmp_path / "with" / "quality.csv").read_text()
    assert [row["epoch"] for row in rows(tmp_path / "with" / "quality.csv") if row["class"] == "all"] == ["1", "2", "3"]
    assert watching.best is not None and resumed_probe.best is not None
    assert equal(watching.best, resumed_probe.best) and watching.best_row == resumed_probe.best_row


def test_the_snapshot_for_the_bank_is_that_with_the_lowest_validation_kid(tiny: Compose) -> None:
    overrides = [*ENOUGH, "gan.epochs=4", "gan.optimizer.lr=2e-3"]
    chosen = prepare(tiny("train_gan", *overrides, "quality.every=1", "quality.snapshot=best_kid"))
    folder = chosen.store.folder("gans", train_gan(chosen))
    looks = {int(row["epoch"]): float(row["kid"]) for row in rows(folder / "quality.csv") if row["class"] == "all"}
    snapshot = chosen.store.manifest("gans", chosen.gan_id)["summary"]["snapshot"]
    best = min(looks, key=lambda epoch: looks[epoch])
    assert snapshot["epoch"] == best and snapshot["kid"] == pytest.approx(looks[best])
    assert best < 4, "choose settings under which the last epoch is not the best, or this test says nothing"
    # the same weights as a training that ends there
    short = prepare(tiny("train_gan", *overrides, f"gan.epochs={best}"))
    train_gan(short)
    last = prepare(tiny("train_gan", *overrides, "quality.every=2"))
    train_gan(last)
    kept, ended, at_end = (
        torch.load(context.store.folder("gans", context.gan_id) / "generator.pt", weights_only=True)
        for context in (chosen, short, last)
    )
    assert equal(kept, ended) and not equal(kept, at_end)


def test_the_end_is_always_looked_at_even_within_an_epoch(tiny: Compose) -> None:
    context = prepare(tiny("train_gan", *ENOUGH, "gan.updates=3", "quality.every=100"))
    folder = context.store.folder("gans", train_gan(context))
    assert [row["class"] for row in rows(folder / "quality.csv")] == ["all", *context.images.classes]
    assert context.store.manifest("gans", context.gan_id)["summary"]["quality"]["kid"] is not None


def test_only_a_chosen_snapshot_enters_the_id(tiny: Compose) -> None:
    plain, watched, chosen, sooner = (
        prepare(tiny("train_gan", *overrides))
        for overrides in (
            [],
            ["quality.every=5", "quality.draws=3"],
            ["quality.every=5", "quality.snapshot=best_kid"],
            ["quality.every=2", "quality.snapshot=best_kid"],
        )
    )
    assert "quality" not in plain.gan_identity
    assert plain.gan_id == watched.gan_id
    assert len({plain.gan_id, chosen.gan_id, sooner.gan_id}) == 3


def test_without_validation_images_there_is_nothing_to_measure_on(tiny: Compose) -> None:
    context = prepare(tiny("train_gan", "quality.every=1", "split.validation_fraction=0"))
    with pytest.raises(UserError, match=r"quality\.every=1: .*split\.validation_fraction=0"):
        train_gan(context)


class Poison(Callback):
    """Makes the discriminator's weights NaN at the start of the second epoch, and keeps what the average was."""

    before: dict[str, torch.Tensor]

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        if trainer.current_epoch == 1:
            self.before = {name: value.clone() for name, value in pl_module.average.state_dict().items()}
            with torch.no_grad():
                for weight in pl_module.discriminator.parameters():
                    weight.fill_(float("nan"))


def test_a_loss_that_is_not_finite_leaves_the_last_good_generator(tiny: Compose, tmp_path: Path) -> None:
    context, poison = prepare(tiny("train_gan")), Poison()
    with pytest.raises(UserError, match="not finite"):
        run(context, tmp_path / "run", 3, poison, LastGood(tmp_path / "run"))
    kept = torch.load(tmp_path / "run" / LAST_GOOD, weights_only=True)
    gan = context.settings["gan"]
    average = build_generator(gan, 6)
    average.load_state_dict(poison.before)
    for name, value in settled(average, gan, [1] * 6).state_dict().items():  # `run` says nothing of counts
        torch.testing.assert_close(kept[name], value)
    assert all(torch.equal(kept[name], value) for name, value in average.named_parameters())
    assert all(value.isfinite().all() for value in kept.values())
