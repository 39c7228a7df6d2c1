"""An antialiased resize whose sums are exact: the same bytes from any machine, thread count and runtime."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

WEIGHT_BITS = 22  # a pixel's 8 bits and those of two passes: 52, which float64 holds exactly in any order of summing


@lru_cache(maxsize=32)
def resampling(source: int, size: int) -> Tensor:
    """float64 `(size, source)`: the weights of one axis, multiples of 2**-WEIGHT_BITS, each row of sum 1.

    The triangle filter of antialiased bilinear interpolation, `max(1, source / size)` pixels to either side.
    """
    centres = (2 * np.arange(size) + 1) * source
    distances = np.abs((2 * np.arange(source) + 1) * size - centres[:, None])
    triangle = np.clip(2 * max(source, size) - distances, 0, None).astype(np.int64)
    scaled, total = triangle << WEIGHT_BITS, triangle.sum(1, keepdims=True)
    weights, rest = scaled // total, scaled % total
    # what rounding down lost goes to the weights that lost most
    lost = (1 << WEIGHT_BITS) - weights.sum(1)
    ranks = np.argsort(np.argsort(-rest, axis=1, kind="stable"), axis=1, kind="stable")
    weights += ranks < lost[:, None]
    return torch.from_numpy(weights / (1 << WEIGHT_BITS))


def resize(images: np.ndarray | Tensor, size: int, chunk: int = 512) -> Tensor:
    """uint8 `(N, S, S)` to uint8 `(N, size, size)`, antialiased; real and synthetic images go through here alike."""
    source = torch.from_numpy(np.ascontiguousarray(images)) if isinstance(images, np.ndarray) else images
    if source.shape[-1] == size:
        return source
    weights = resampling(source.shape[-1], size).to(source.device)
    parts = [(weights @ (part.double() @ weights.T)).round_().to(torch.uint8) for part in source.split(chunk)]
    return torch.cat(parts)
