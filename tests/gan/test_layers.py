import math

import pytest
import torch
from torch.nn import functional as F

from steeldefect.gan.layers import ADropout, critical_gain, elu_moments


@pytest.mark.parametrize(("alpha", "mean", "variance"), [(1.0, 0.1605, 0.6192), (0.5, 0.2797, 0.4580)])
def test_elu_moments_are_those_of_the_protocol_and_of_sampling(alpha: float, mean: float, variance: float) -> None:
    assert elu_moments(alpha) == pytest.approx((mean, variance), abs=1e-4)
    x = F.elu(torch.randn(2_000_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64), alpha)
    assert elu_moments(alpha) == pytest.approx((x.mean().item(), x.var().item()), abs=2e-3)


def test_critical_gain_keeps_the_mean_square_through_an_elu_stack() -> None:
    assert critical_gain(1.0) == pytest.approx(1.245, abs=1e-3)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4096, 512, generator=generator)
    for _ in range(6):
        x = F.elu(x) @ torch.randn(512, 512, generator=generator) * critical_gain(1.0) / math.sqrt(512)
    assert x.square().mean().item() == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize("keep", [0.5, 0.75, 0.9, 0.95])
@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_a_dropout_keeps_mean_and_variance(keep: float, alpha: float) -> None:
    """Eqs. 6-8 by sampling: both moments within 1 % of those of ELU on N(0, 1)."""
    torch.manual_seed(0)
    x = F.elu(torch.randn(4000, 500, 1, 1), alpha)
    y = ADropout(keep, alpha).train()(x)
    mean, variance = elu_moments(alpha)
    assert y.mean().item() == pytest.approx(mean, rel=0.01)
    assert y.var().item() == pytest.approx(variance, rel=0.01)


def test_torch_alpha_dropout_does_not_serve_an_elu() -> None:
    torch.manual_seed(0)
    y = torch.nn.AlphaDropout(0.1).train()(F.elu(torch.randn(2000, 500)))
    mean, variance = elu_moments(1.0)
    assert abs(y.mean().item() / mean - 1) > 0.1 or abs(y.var().item() / variance - 1) > 0.1


def test_a_dropout_drops_whole_channels_to_one_value_and_nothing_in_eval() -> None:
    torch.manual_seed(0)
    layer = ADropout(0.5)
    x = torch.rand(8, 16, 3, 3)
    y = layer.train()(x)
    dropped = layer.scale * layer.sigma + layer.shift
    constant = (y - dropped).abs().amax(dim=(2, 3)) < 1e-6
    kept = (y - (layer.scale * x + layer.shift)).abs().amax(dim=(2, 3)) < 1e-5
    assert torch.equal(constant, ~kept)
    assert 0 < constant.float().mean() < 1
    assert torch.equal(layer.eval()(x), x)


def test_a_dropout_refuses_a_keep_probability_of_zero() -> None:
    with pytest.raises(ValueError, match="keep_probability=0"):
        ADropout(0)
