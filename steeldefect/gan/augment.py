"""Differentiable augmentation in front of D, of real and fake images alike (Zhao et al. 2020, "DiffAugment").

D never sees an image as it is, so it cannot learn a small training set by heart; G gets its gradient through the same
transforms. Every image of a batch draws its own, on its device; strengths are DiffAugment's. No clamp: it would cut
the gradient.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from steeldefect.gan.orbit import MAX_SHIFT

CUTOUT = 1 / 2  # side of the square, as a share of the image's


def augment(images: Tensor, policies: Sequence[str]) -> Tensor:
    """`(N, 1, S, S)` in [-1, 1] through `policies` in the order given, float32, differentiable; none: as it came."""
    if not policies:
        return images
    images = images.float()
    for policy in policies:
        images = POLICIES[policy](images)
    return images


def brightness(images: Tensor) -> Tensor:
    return images + _uniform(images, -0.5, 0.5)


def contrast(images: Tensor) -> Tensor:
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (images - mean) * _uniform(images, 0.5, 1.5) + mean


def flip(images: Tensor) -> Tensor:
    """Left to right and top to bottom, each with probability 1/2; G is free in which it draws (`gan.orbit`)."""
    for dim in (2, 3):
        images = torch.where(_uniform(images, 0, 1) < 0.5, images, images.flip(dim))
    return images


def translation(images: Tensor) -> Tensor:
    """By whole pixels, up to an eighth of the side either way; mid-gray comes in."""
    side = images.shape[-1]
    reach = round(side * MAX_SHIFT)
    for dim in (2, 3):
        shift = torch.randint(-reach, reach + 1, (len(images), 1), device=images.device)
        images = Shifted.apply(images, shift, dim)
    return images


class Shifted(torch.autograd.Function):
    """Images `(N, C, H, W)` moved along `dim` by `shift` `(N, 1)` whole pixels; 0 comes in.

    Its gradient is moved back. What autograd makes of `gather` adds up by index, and on CUDA under deterministic algorithms
    sorts all pixels for that.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, shift: Tensor, dim: int) -> Tensor:
        ctx.save_for_backward(shift)
        ctx.dim = dim
        side = images.shape[dim]
        source = torch.arange(side, device=images.device) - shift
        shape = [len(images), 1, 1, 1]
        shape[dim] = side
        index = source.clamp(0, side - 1).view(shape).expand_as(images)
        inside = ((source >= 0) & (source < side)).view(shape)
        return images.gather(dim, index) * inside

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (shift,) = ctx.saved_tensors
        # through apply, so that it has a gradient of its own (R1)
        return Shifted.apply(gradients[0], -shift, ctx.dim), None, None


def cutout(images: Tensor) -> Tensor:
    """A square of half the side becomes mid-gray; its centre lies anywhere in the image."""
    side = images.shape[-1]
    places = torch.arange(side, device=images.device)
    hidden = torch.ones_like(images, dtype=torch.bool)
    for dim in (2, 3):
        centre = torch.randint(0, side, (len(images), 1), device=images.device)
        shape = [len(images), 1, 1, 1]
        shape[dim] = side
        offset = places - centre + side * CUTOUT / 2
        hidden = hidden & ((offset >= 0) & (offset < side * CUTOUT)).view(shape)
    return images * ~hidden


def _uniform(images: Tensor, low: float, high: float) -> Tensor:
    """`(N, 1, 1, 1)`, a number an image."""
    return low + (high - low) * torch.rand(len(images), 1, 1, 1, device=images.device)


POLICIES: dict[str, Callable[[Tensor], Tensor]] = {
    "brightness": brightness,
    "contrast": contrast,
    "flip": flip,
    "translation": translation,
    "cutout": cutout,
}
