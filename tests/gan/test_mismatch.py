"""`discriminator.mismatch`: real images under a label that is not theirs are to be called fake."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from steeldefect.gan.losses import CALLED_FAKE, LOSSES
from steeldefect.gan.module import AdversarialModule, judge, mismatch_weights
from steeldefect.gan.networks import build_discriminator
from steeldefect.gan.training import train_gan
from steeldefect.runs.prepare import prepare
from steeldefect.runs.settings import plain
from tests.conftest import Compose


def test_the_logits_of_wrong_labels_are_those_that_d_gives_them(composed: Compose) -> None:
    labels, wrong = torch.tensor([0, 1, 2, 0]), torch.tensor([1, 2, 0, 2])
    real, fake = torch.rand(4, 1, 16, 16), torch.rand(4, 1, 16, 16)
    for minibatch_std in ("false", "true"):
        gan = composed("train_gan", "gan.image_size=16", f"gan.discriminator.minibatch_std={minibatch_std}").gan
        discriminator = build_discriminator(gan, 3).eval()
        nn.init.normal_(discriminator.embedding.weight)
        of_real, of_fake, of_wrong = judge(discriminator, real, fake, labels, (), wrong)
        torch.testing.assert_close(of_real, discriminator(real, labels))
        torch.testing.assert_close(of_fake, discriminator(fake, labels))
        assert of_wrong.shape == (4,) and not torch.allclose(of_wrong, of_real)
        if minibatch_std == "false":  # with it, a label also says whose spread an image is held against
            torch.testing.assert_close(of_wrong, discriminator(real, wrong))
        assert judge(discriminator, real, fake, labels)[2].shape == (0,)


def test_every_wrong_label_is_drawn_and_never_the_right_one(composed: Compose) -> None:
    gan = plain(composed("train_gan", "gan=edcgan_plus", "gan.image_size=16"))["gan"]
    labels = torch.arange(3).repeat(200)
    wrong = AdversarialModule(gan, 3)._wrong(labels)
    assert wrong is not None
    assert {(a, b) for a, b in zip(labels.tolist(), wrong.tolist(), strict=True)} == {
        (a, b) for a in range(3) for b in range(3) if a != b
    }
    gan["conditioning"] = "per_class"
    assert AdversarialModule(gan, 3)._wrong(labels) is None
    assert AdversarialModule({**gan, "conditioning": "conditional"}, 1)._wrong(labels) is None


def test_d_learns_from_wrong_labels_what_a_class_looks_like(composed: Compose) -> None:
    """Dark and light images, and fakes that are as good as real ones: these teach nothing, wrong labels do."""
    torch.manual_seed(0)
    labels = torch.arange(2).repeat(32)
    real = (labels[:, None, None, None] - 0.5) + 0.1 * torch.randn(64, 1, 16, 16)
    gap = {}
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        gan = composed("train_gan", "gan=edcgan", "gan.image_size=16", "gan.discriminator.keep_probability=1.0").gan
        discriminator = build_discriminator(gan, 2)
        optimizer = torch.optim.Adam(discriminator.parameters(), lr=1e-3)
        for _ in range(60):
            of_real, of_fake, of_wrong = judge(discriminator, real, real, labels, (), 1 - labels)
            called_fake = CALLED_FAKE["non_saturating"]
            loss = F.softplus(-of_real).mean() + called_fake(of_fake) + weight * called_fake(of_wrong)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            gap[weight] = (discriminator(real, labels) - discriminator(real, 1 - labels)).mean().item()
    assert gap[1.0] > 2 and abs(gap[0.0]) < 0.2 * gap[1.0]


def test_wrong_labels_weigh_as_much_as_a_label_has_images(composed: Compose) -> None:
    """Nine images of a class to one of the other: alike, the rare label would be called fake 2.7 times as often as real."""
    gan = plain(composed("train_gan", "gan=edcgan_plus", "gan.image_size=16"))["gan"]
    assert AdversarialModule(gan, 3, [170, 168, 161]).mismatch_weights is None
    for counts in ([90, 10], [96, 1, 1, 1, 1], [60, 30, 10]):
        weights = AdversarialModule(gan, len(counts), counts).mismatch_weights
        assert weights is not None
        shares, n = torch.tensor(counts) / sum(counts), len(counts)
        drawn = (1 - torch.eye(n)) / (n - 1)  # uniform over the others
        torch.testing.assert_close((shares[:, None] * drawn * weights).sum(0), shares)
    torch.testing.assert_close(mismatch_weights([5, 5, 5]), torch.ones(3))


def test_weights_of_wrong_labels_enter_the_step(tiny: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, drawn = [], []
    original = AdversarialModule.__init__

    def watched(self: AdversarialModule, gan: dict[str, Any], classes: int, counts: list[int] | None = None) -> None:
        original(self, gan, classes, counts)
        self.register_buffer("mismatch_weights", torch.arange(1.0, 7.0), persistent=False)
        wrong = self._wrong

        def noted(labels: torch.Tensor) -> torch.Tensor | None:
            drawn.append(wrong(labels))
            return drawn[-1]

        self._wrong = noted
        loss = self.called_fake

        def kept(logits: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
            seen.append(weights)
            return loss(logits, weights)

        self.called_fake = kept

    monkeypatch.setattr(AdversarialModule, "__init__", watched)
    train_gan(prepare(tiny("train_gan", "gan=edcgan_plus", "gan.updates=2")))
    assert len(seen) == 2
    for weights, labels in zip(seen, drawn, strict=True):
        assert torch.equal(weights, labels + 1.0)


def test_the_sizes_of_classes_reach_the_generator(tiny: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    context = prepare(tiny("train_gan", "gan.updates=1"))
    few = np.concatenate([context.real[context.images.labels[context.real] == c][: 2 + c] for c in range(6)])
    context = dataclasses.replace(context, split=dataclasses.replace(context.split, train=few))
    seen = []
    original = AdversarialModule.__init__

    def watched(self: AdversarialModule, gan: dict[str, Any], classes: int, counts: list[int] | None = None) -> None:
        original(self, gan, classes, counts)
        seen.append(list(self.counts))

    monkeypatch.setattr(AdversarialModule, "__init__", watched)
    train_gan(context)
    assert seen[0] == list(context.real_counts) == [2, 3, 4, 5, 6, 7]


def test_what_is_called_fake_is_that_part_of_the_loss() -> None:
    logits, sure = torch.tensor([-2.0, 0.5, 3.0]), torch.full((3,), 1e4)
    for name, (of_d, _) in LOSSES.items():
        torch.testing.assert_close(CALLED_FAKE[name](logits), of_d(sure, logits))
        torch.testing.assert_close(CALLED_FAKE[name](logits, torch.ones(3)), of_d(sure, logits))
        # of several logits an image each weighs alike
        two, weights = torch.stack([logits, logits + 1], 1), torch.tensor([0.0, 3.0, 0.0])
        torch.testing.assert_close(CALLED_FAKE[name](two, weights), of_d(sure, two[1]))
