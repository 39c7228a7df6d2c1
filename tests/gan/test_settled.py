"""Banks are drawn with the batch statistics of the averaged weights."""

import numpy as np
import pytest
import torch
from torch import nn

from steeldefect.gan.networks import PerClass, build_generator, latent_size
from steeldefect.gan.sampling import latents, settled
from tests.conftest import Compose


def within(generator: nn.Module, z: torch.Tensor, labels: torch.Tensor) -> list[tuple[float, float]]:
    """Mean and variance of what each normalisation gives, over the images."""
    seen = []
    for layer in generator.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.register_forward_hook(
                lambda own, _, out: seen.append(((out - shift(own)).mean(), out.var() / scale(own)))
            )
    with torch.no_grad():
        generator(z, labels)
    return [(float(mean), float(variance)) for mean, variance in seen]


def shift(layer: nn.BatchNorm2d) -> torch.Tensor:
    return layer.bias[:, None, None] if layer.affine else torch.zeros(())


def scale(layer: nn.BatchNorm2d) -> torch.Tensor:
    return layer.weight.square().mean() if layer.affine else torch.ones(())


@pytest.mark.parametrize("name", ["edcgan", "edcgan_plus"])
def test_what_leaves_a_normalisation_is_normal_again(composed: Compose, name: str) -> None:
    torch.manual_seed(0)
    gan = composed("train_gan", f"gan={name}", "gan.image_size=16").gan
    generator = build_generator(gan, 3).eval()
    for layer in generator.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_var.fill_(4.0)  # of weights that swung
    before = {key: value.clone() for key, value in generator.state_dict().items()}
    state = torch.get_rng_state()
    made = settled(generator, gan, [30, 30, 30])
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in generator.state_dict().items())
    assert not any(layer.training for layer in made.modules())
    z, labels = latents(1, range(600), latent_size(gan)), torch.arange(600) % 3
    for mean, variance in within(made, z, labels):
        assert abs(mean) < 0.05 and variance == pytest.approx(1, abs=0.1)
    weights = [key for key, _ in made.named_parameters()]
    assert weights and all(torch.equal(made.state_dict()[key], before[key]) for key in weights)
    # the same statistics however often it is asked
    again = settled(made, gan, [30, 30, 30])
    assert all(torch.equal(a, b) for a, b in zip(made.buffers(), again.buffers(), strict=True))


def test_the_mix_of_classes_is_that_of_the_training(composed: Compose) -> None:
    torch.manual_seed(0)
    gan = composed("train_gan", "gan=edcgan", "gan.image_size=16").gan
    generator = build_generator(gan, 2)
    nn.init.constant_(generator.embedding.weight[0].data, -3.0)
    nn.init.constant_(generator.embedding.weight[1].data, 3.0)
    with torch.no_grad():
        means = [
            generator.linear(torch.cat([torch.zeros(1, 100), e[None]], 1)).view(-1, 16).mean(1)
            for e in generator.embedding.weight
        ]
    for counts, expected in (([1, 0], means[0]), ([0, 1], means[1]), ([3, 1], 0.75 * means[0] + 0.25 * means[1])):
        first = next(layer for layer in settled(generator, gan, counts).modules() if isinstance(layer, nn.BatchNorm2d))
        assert np.corrcoef(first.running_mean, expected)[0, 1] > 0.9


def test_each_network_of_per_class_and_one_without_normalisation(composed: Compose) -> None:
    gan = composed("train_gan", "gan=edcgan", "gan.image_size=16", "gan.conditioning=per_class").gan
    made = settled(build_generator(gan, 2), gan, [5, 5])
    assert isinstance(made, PerClass)
    found = [next(layer for layer in one.modules() if isinstance(layer, nn.BatchNorm2d)).running_var for one in made]
    assert not torch.equal(found[0], found[1]) and all((one != 1).all() for one in found)
    plain = composed("train_gan", "gan=edcgan", "gan.image_size=16", "gan.generator.norm=none").gan
    generator = build_generator(plain, 2)
    same = settled(generator, plain, [5, 5]).state_dict()
    assert all(torch.equal(value, same[key]) for key, value in generator.state_dict().items())
