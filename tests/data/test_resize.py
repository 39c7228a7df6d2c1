import numpy as np
import pytest
import torch
from torch.nn import functional as F

from steeldefect.data.resize import resampling, resize

SIZES = [(200, 64), (64, 48), (200, 224), (200, 256), (33, 7), (7, 7)]


def test_resize_is_antialiased_and_leaves_equal_sizes_alone() -> None:
    fine = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)[None]  # a checkerboard of single pixels
    small = resize(fine, 16)
    assert small.shape == (1, 16, 16) and (small.float() - 127.5).abs().max() < 10
    assert torch.equal(resize(fine, 64), torch.from_numpy(fine))


@pytest.mark.parametrize(("source", "size"), SIZES)
def test_resize_is_that_of_torch_up_to_ties(source: int, size: int) -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, source, source), dtype=np.uint8))
    reference = F.interpolate(images[:, None].double(), (size, size), mode="bilinear", antialias=True)[:, 0]
    assert (resize(images, size).double() - reference).abs().max() <= 0.5 + 1e-3


@pytest.mark.parametrize(("source", "size"), SIZES)
def test_sums_are_exact_in_any_order(source: int, size: int) -> None:
    weights = resampling(source, size)
    assert torch.equal(weights.sum(1), torch.ones(size, dtype=torch.float64))
    images = np.random.default_rng(1).integers(0, 256, (2, source, source), dtype=np.uint8)
    order = np.random.default_rng(2).permutation(source)
    shuffled = weights[:, order]
    again = (shuffled @ torch.from_numpy(images[:, order][:, :, order]).double()) @ shuffled.T
    assert torch.equal(again.round().to(torch.uint8), resize(images, size))
