"""Batched, on-device augmentation: every image of a batch draws its own transform, nothing is copied to the host."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

MAX_SHIFT = 0.1  # of the side
MAX_ROTATION = math.radians(10)
MAX_BRIGHTNESS = 0.2  # added, as a share of half the value range
MAX_CONTRAST = 0.2
CHUNK = 512


def classical(images: Tensor) -> Tensor:
    """Flips, small shifts and rotations, brightness and contrast (`augment=classical`).

    `images` is `(N, C, H, W)` float in [-1, 1]; the result has the same shape and range. Pixels that a shift or
    rotation brings in are mirrored at the border.
    """
    return brightness_contrast(affine(images))


def frozen_draws(images: Tensor, labels: np.ndarray, counts: Sequence[int], seed: int) -> tuple[Tensor, np.ndarray]:
    """`counts[c]` augmented draws of class c, made once from `seed`: uint8 `(m, S, S)` and int64 labels `(m,)`.

    `images` are uint8 `(n, S, S)` of labels `(n,)`; a class's images take turns, so that with 4 n_c wanted, each is
    drawn four times. What is drawn is what `augment=classical` does to a batch.
    """
    sources = in_turns(labels, counts)
    parts = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in torch.from_numpy(sources).split(CHUNK):
            drawn = classical(images[part].unsqueeze(1).float() / 127.5 - 1)[:, 0]
            parts.append(((drawn + 1) * 127.5).round().clamp(0, 255).to(torch.uint8))
    return torch.cat(parts), labels[sources]


def in_turns(labels: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """Indices of `counts[c]` images of each class c, over and over in their order: `(m,)` int64."""
    return np.concatenate([np.resize(np.flatnonzero(labels == c), count) for c, count in enumerate(counts)])


def affine(images: Tensor) -> Tensor:
    n, device = len(images), images.device
    angle = _uniform(n, device, MAX_ROTATION)
    flip_x = 1 - 2 * torch.randint(0, 2, (n,), device=device).float()
    flip_y = 1 - 2 * torch.randint(0, 2, (n,), device=device).float()
    # grid coordinates span [-1, 1], so a shift by a share s of the side is 2 s
    shift_x, shift_y = _uniform(n, device, 2 * MAX_SHIFT), _uniform(n, device, 2 * MAX_SHIFT)
    cos, sin = torch.cos(angle), torch.sin(angle)
    theta = torch.stack([cos * flip_x, -sin * flip_y, shift_x, sin * flip_x, cos * flip_y, shift_y], 1).view(n, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False).to(images.dtype)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def brightness_contrast(images: Tensor) -> Tensor:
    n, device = len(images), images.device
    brightness = _uniform(n, device, MAX_BRIGHTNESS).view(n, 1, 1, 1)
    contrast = 1 + _uniform(n, device, MAX_CONTRAST).view(n, 1, 1, 1)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return ((images - mean) * contrast + mean + brightness).clamp(-1, 1)


def _uniform(n: int, device: torch.device, limit: float) -> Tensor:
    return (2 * torch.rand(n, device=device) - 1) * limit
