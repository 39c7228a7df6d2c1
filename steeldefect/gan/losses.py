"""Adversarial losses on logits; each takes and returns tensors of the batch and never leaves the device.

Logits are `(N,)`, or `(N, K)` from a discriminator that judges an image in K places.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steeldefect.gan.augment import augment


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """-E[log D(x)] - E[log(1 - D(G(z)))], the negative of the paper's eq. 3."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def non_saturating(fake: Tensor) -> Tensor:
    """-E[log D(G(z))], Goodfellow's form: strong gradients while D still wins."""
    return F.softplus(-fake).mean()


def minimax(fake: Tensor) -> Tensor:
    """E[log(1 - D(G(z)))], the paper's eq. 2."""
    return -F.softplus(fake).mean()


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))] (Lim and Ye 2017): what is told apart by 1 pulls no more."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def hinge_generator(fake: Tensor) -> Tensor:
    """-E[D(G(z))]."""
    return -fake.mean()


def called_fake(logits: Tensor, weights: Tensor | None = None) -> Tensor:
    """-E[w log(1 - D)], the part of `discriminator_loss` that is taken of fakes; weights w of the images `(N,)`, else 1."""
    return _weighted_mean(F.softplus(logits), weights)


def hinge_called_fake(logits: Tensor, weights: Tensor | None = None) -> Tensor:
    """E[w max(0, 1 + D)], the same of `hinge_discriminator`."""
    return _weighted_mean(F.relu(1 + logits), weights)


def _weighted_mean(values: Tensor, weights: Tensor | None) -> Tensor:
    return values.mean() if weights is None else (weights * values.view(len(weights), -1).mean(1)).mean()


# by gan.loss: of D on what else it is to call fake
CALLED_FAKE = {"non_saturating": called_fake, "minimax": called_fake, "hinge": hinge_called_fake}
# by gan.loss: of D on (real, fake) and of G on fake
LOSSES = {
    "non_saturating": (discriminator_loss, non_saturating),
    "minimax": (discriminator_loss, minimax),
    "hinge": (hinge_discriminator, hinge_generator),
}


def r1_penalty(discriminator: nn.Module, images: Tensor, labels: Tensor, policies: tuple[str, ...] = ()) -> Tensor:
    """E[|dD/dx|^2] / 2 at real images `(N, 1, S, S)`, through the augmentation (Mescheder et al. 2018, R1).

    In float32 whatever the precision of the run: squares of small gradients are lost in half precision.
    """
    with torch.autocast(images.device.type, enabled=False):
        images = images.float().detach().requires_grad_()
        logits = discriminator(augment(images, policies), labels)
        # one logit an image: a discriminator with K counts by their mean
        (gradient,) = torch.autograd.grad(logits.view(len(images), -1).mean(1).sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean() / 2
