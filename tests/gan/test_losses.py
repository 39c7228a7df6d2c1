import pytest
import torch
from torch import Tensor, nn

from steeldefect.gan.losses import LOSSES, hinge_discriminator, hinge_generator, r1_penalty


class Quadratic(nn.Module):
    """D(x) = a |x|^2 / 2 + b.x: its gradient at x is a x + b."""

    def __init__(self, logits: int = 1) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(3.0))
        self.b = nn.Parameter(torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0)))
        self.logits = logits

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        value = (self.a * x.square() / 2 + self.b * x).sum((1, 2, 3))
        return value if self.logits == 1 else value[:, None] + torch.arange(self.logits)


@pytest.mark.parametrize("logits", [1, 5])
def test_r1_and_its_gradient_equal_those_by_hand(logits: int) -> None:
    d = Quadratic(logits)
    x = torch.randn(7, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    penalty = r1_penalty(d, x, torch.zeros(7, dtype=torch.int64))
    slope = d.a.detach() * x + d.b.detach()
    assert penalty.item() == pytest.approx((slope.square().sum((1, 2, 3)).mean() / 2).item(), rel=1e-5)
    penalty.backward()
    assert d.a.grad is not None and d.b.grad is not None
    assert d.a.grad.item() == pytest.approx((slope * x).sum((1, 2, 3)).mean().item(), rel=1e-5)
    assert torch.allclose(d.b.grad, slope.mean(0, keepdim=True), rtol=1e-4)


def test_r1_is_float32_under_autocast() -> None:
    layer = nn.Conv2d(1, 1, 4)
    seen = []
    layer.register_forward_hook(lambda _, inputs, out: seen.append(out.dtype))

    def d(x: Tensor, labels: Tensor) -> Tensor:
        return layer(x).flatten()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        penalty = r1_penalty(d, torch.randn(3, 1, 4, 4).bfloat16(), torch.zeros(3, dtype=torch.int64))
    assert seen == [torch.float32] and penalty.dtype == torch.float32


def test_hinge_pulls_no_more_at_what_is_told_apart_by_one() -> None:
    real, fake = torch.tensor([2.0, 0.5], requires_grad=True), torch.tensor([-3.0, 0.0], requires_grad=True)
    loss = hinge_discriminator(real, fake)
    assert loss.item() == pytest.approx(0.25 + 0.5)
    loss.backward()
    assert real.grad is not None and real.grad.tolist() == [0, -0.5]
    assert fake.grad is not None and fake.grad.tolist() == [0, 0.5]
    assert hinge_generator(fake).item() == pytest.approx(1.5)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_draws_d_apart_and_g_upwards(name: str) -> None:
    of_d, of_g = LOSSES[name]
    real, fake = torch.zeros(4, requires_grad=True), torch.zeros(4, requires_grad=True)
    of_d(real, fake).backward()
    assert real.grad is not None and fake.grad is not None and (real.grad < 0).all() and (fake.grad > 0).all()
    fake.grad = None
    of_g(fake).backward()
    assert (fake.grad < 0).all()
