"""What a training step does, on tiny real runs of the rendered data set."""

from pathlib import Path
from typing import Any

import pytest
import torch

from steeldefect.data.datamodule import MixDataModule
from steeldefect.gan import module as module_file
from steeldefect.gan.module import AdversarialModule
from steeldefect.gan.training import train_gan
from steeldefect.runs.prepare import prepare
from steeldefect.runs.training import LAST
from tests.conftest import Compose
from tests.gan.test_training import equal, run
from tests.hot_path import HotPath

# r1_every=2: the penalty falls on both sides of the stop, at steps that a count from zero would shift
PLUS = [
    *("gan=edcgan_plus", "gan.discriminator.r1_gamma=0.1", "gan.discriminator.r1_every=2"),
    *("gan.discriminator.spectral_norm=true", "gan.discriminator.minibatch_std=true"),
    "gan.discriminator.keep_probability=0.9",
]
PROJECTED = ["gan=projected", "gan.discriminator.feature_size=32"]


@pytest.mark.parametrize(
    "overrides",
    [PLUS, [*PLUS, "gan.conditioning=per_class"], PROJECTED],
    ids=["edcgan_plus", "edcgan_plus-per_class", "projected"],
)
def test_a_run_stopped_and_resumed_equals_one_straight(tiny: Compose, tmp_path: Path, overrides: list[str]) -> None:
    context = prepare(tiny("train_gan", "trainer.checkpoint_seconds=0", *overrides))
    straight = run(context, tmp_path / "straight", 2)
    stopped = run(context, tmp_path / "stopped", 1)
    assert not equal(straight, stopped)
    resumed = run(context, tmp_path / "stopped", 2)
    assert equal(straight, resumed)
    assert straight.history == resumed.history and len(resumed.history) == 2
    if overrides == PROJECTED:
        # the frozen network alone is 13 MB
        size = (tmp_path / "stopped" / LAST).stat().st_size
        weights = sum(value.numel() * value.element_size() for value in resumed.state_dict().values())
        assert size < 3 * weights + 1e6


@pytest.mark.parametrize(
    "overrides",
    [
        [*PLUS, "gan.discriminator.augment=[brightness,contrast,flip,translation,cutout]"],
        ["gan.conditioning=per_class"],
    ],
    ids=["edcgan_plus", "per_class"],
)
def test_nothing_in_a_step_is_read_off_the_device(
    tiny: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str]
) -> None:
    steps = []
    original = AdversarialModule.training_step

    def watched(self: AdversarialModule, batch: Any, batch_idx: int) -> None:
        with HotPath():
            original(self, batch, batch_idx)
        steps.append(batch_idx)

    monkeypatch.setattr(AdversarialModule, "training_step", watched)
    run(prepare(tiny("train_gan", *overrides)), tmp_path / "run", 1)
    assert len(steps) > 2


def test_per_class_trains_the_networks_of_the_batch_s_class(
    tiny: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    original = AdversarialModule._networks

    def watched(self: AdversarialModule, batch_idx: int) -> Any:
        generator, discriminator = original(self, batch_idx)
        place = next(i for i, one in enumerate(self.generator) if one is generator)
        assert self.discriminator[place] is discriminator
        seen.append(place)
        return generator, discriminator

    step = AdversarialModule.training_step
    labels = []

    def labelled(self: AdversarialModule, batch: Any, batch_idx: int) -> None:
        step(self, batch, batch_idx)
        labels.append(batch[1].unique().tolist())

    monkeypatch.setattr(AdversarialModule, "_networks", watched)
    monkeypatch.setattr(AdversarialModule, "training_step", labelled)
    run(prepare(tiny("train_gan", "gan.conditioning=per_class", "gan.batch_size=4")), tmp_path / "run", 2)
    assert labels == [[place] for place in seen]
    assert len(seen) > 12 and seen[: len(seen) // 2] != seen[len(seen) // 2 :]


def test_the_penalty_is_lazy_and_weighs_what_was_left_out(
    tiny: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = []
    original = AdversarialModule._penalised

    def watched(self: AdversarialModule, loss: torch.Tensor, *rest: Any) -> torch.Tensor:
        objective = original(self, loss, *rest)
        added.append((objective - loss).item())
        return objective

    monkeypatch.setattr(AdversarialModule, "_penalised", watched)
    monkeypatch.setattr(module_file, "r1_penalty", lambda *_: torch.tensor(0.25))
    settings = ["gan.discriminator.r1_gamma=2", "gan.discriminator.r1_every=3", "gan.batch_size=8"]
    run(prepare(tiny("train_gan", *settings)), tmp_path / "run", 2)
    assert len(added) > 6
    assert added == pytest.approx([1.5 if i % 3 == 0 else 0 for i in range(len(added))], abs=1e-6)


def test_r1_is_differentiated_twice_in_float32(tiny: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enabled = []
    original = AdversarialModule.manual_backward

    def watched(self: AdversarialModule, loss: torch.Tensor, *rest: Any) -> None:
        enabled.append(torch.is_autocast_enabled("cpu"))
        original(self, loss, *rest)

    monkeypatch.setattr(AdversarialModule, "manual_backward", watched)
    for gamma, first in (("1", False), ("0", True)):
        enabled.clear()
        context = prepare(
            tiny("train_gan", f"gan.discriminator.r1_gamma={gamma}", "gan.updates=1", "precision=bf16-mixed")
        )
        train_gan(context)
        assert enabled == [first, True]  # D, then G


def test_each_ingredient_changes_what_d_learns(tiny: Compose, tmp_path: Path) -> None:
    def weights(name: str, *overrides: str) -> dict[str, torch.Tensor]:
        trained = run(prepare(tiny("train_gan", *overrides)), tmp_path / name, 1).discriminator.state_dict()
        return {key: value for key, value in trained.items() if key.endswith("weight")}

    plain = weights("plain")
    for name, override in {
        "augment": "gan.discriminator.augment=[flip]",
        "r1": "gan.discriminator.r1_gamma=1",
        "hinge": "gan.loss=hinge",
        "rate": "gan.optimizer.lr_discriminator=1e-3",
    }.items():
        assert not any(torch.equal(plain[key], value) for key, value in weights(name, override).items()), name


def test_d_may_learn_at_a_rate_of_its_own(composed: Compose) -> None:
    def rates(*overrides: str) -> list[float]:
        module = AdversarialModule(composed("train_gan", "gan.image_size=16", *overrides).gan, 3)
        return [optimizer.param_groups[0]["lr"] for optimizer in module.configure_optimizers()]

    assert rates("gan.optimizer.lr=1e-3") == [1e-3, 1e-3]
    assert rates("gan.optimizer.lr=1e-3", "gan.optimizer.lr_discriminator=4e-3") == [4e-3, 1e-3]


def test_the_classes_of_an_epoch_s_batches_are_known_on_the_host(tiny: Compose) -> None:
    context = prepare(tiny("train_gan"))
    part = (context.images.images[context.real], context.images.labels[context.real])
    data = MixDataModule(part, None, 16, 4, 0, one_class_batches=True)
    for epoch in range(2):
        batches = list(data.train_dataloader() if epoch == 0 else data.loader or ())
        assert data.batch_classes(epoch) == [int(data.labels[batch[0]]) for batch in batches]
