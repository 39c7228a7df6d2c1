"""Adversarial losses on logits; each takes and returns tensors of the batch and never leaves the device."""

from torch import Tensor
from torch.nn import functional as F


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """-E[log D(x)] - E[log(1 - D(G(z)))], the negative of the paper's eq. 3; `real`, `fake` are logits `(N,)`."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def non_saturating(fake: Tensor) -> Tensor:
    """-E[log D(G(z))], Goodfellow's form: strong gradients while D still wins."""
    return F.softplus(-fake).mean()


def minimax(fake: Tensor) -> Tensor:
    """E[log(1 - D(G(z)))], the paper's eq. 2."""
    return -F.softplus(fake).mean()


GENERATOR_LOSSES = {"non_saturating": non_saturating, "minimax": minimax}
