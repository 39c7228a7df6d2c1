import numpy as np
import pytest
import torch

from steeldefect.data.augment import affine, brightness_contrast, classical
from steeldefect.data.datamodule import IndexLoader, MixDataModule, to_float
from steeldefect.runs.errors import UserError
from steeldefect.runs.mixes import fills_up

CPU = torch.device("cpu")


def part(n: int, size: int, value: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full((n, size, size), value, np.uint8), np.arange(n) % 3


def test_real_and_synthetic_are_mixed_at_one_size_real_first() -> None:
    data = MixDataModule(part(5, 20, 0), part(7, 16, 255), 8, 4, 0)
    assert data.images.shape == (12, 8, 8) and data.images.dtype == torch.uint8
    assert data.images[:5].max() == 0 and data.images[5:].min() == 255
    assert data.labels.tolist() == [0, 1, 2, 0, 1, 0, 1, 2, 0, 1, 2, 0]
    images, labels = data.on_after_batch_transfer(torch.tensor([0, 11]), 0)
    assert images.shape == (2, 1, 8, 8) and images[0].max() == -1 and images[1].min() == 1
    assert labels.tolist() == [0, 0]


def test_an_empty_mix_is_refused() -> None:
    with pytest.raises(UserError, match=r"the mix holds no image: mix\.synthetic_share"):
        MixDataModule(part(0, 8, 0), None, 8, 4, 0)


def test_an_epoch_takes_every_image_once_and_the_last_partial_batch_is_kept() -> None:
    loader = IndexLoader([np.arange(10)], 4, 0, CPU)
    assert len(loader) == 3
    first, second = [b.tolist() for b in loader], [b.tolist() for b in loader]
    assert [len(batch) for batch in first] == [4, 4, 2]
    for epoch in (first, second):
        assert sorted(i for batch in epoch for i in batch) == list(range(10))
    assert first != second
    again = IndexLoader([np.arange(10)], 4, 0, CPU)
    assert [b.tolist() for b in again] == first
    assert [b.tolist() for b in IndexLoader([np.arange(10)], 4, 1, CPU)] != first


@pytest.mark.parametrize(("images", "last"), [(64, 64), (65, 64), (79, 64), (80, 16), (1026, 64), (40, 40), (128, 64)])
def test_a_last_batch_of_a_few_is_filled_up_with_the_first_of_the_epoch(images: int, last: int) -> None:
    loader = IndexLoader([np.arange(images)], 64, 0, CPU)
    batches = [b.tolist() for b in loader]
    assert len(batches) == len(loader) == -(-images // 64)
    assert [len(b) for b in batches] == [*[64] * (len(batches) - 1), last]
    taken = [i for batch in batches for i in batch]
    assert set(taken) == set(range(images)) and taken[images:] == taken[: len(taken) - images]
    assert fills_up(images, 64) == (len(taken) > images)


def test_floats_span_minus_one_to_one_channels_last() -> None:
    x = to_float(torch.tensor([[[0, 255], [51, 204]]], dtype=torch.uint8))
    assert x.flatten().tolist() == pytest.approx([-1, 1, -0.6, 0.6])
    assert x.is_contiguous(memory_format=torch.channels_last)


def test_every_image_of_a_batch_draws_its_own_transform() -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 1, 16, 16).repeat(8, 1, 1, 1) * 2 - 1
    changed = classical(image)
    assert changed.shape == image.shape
    assert changed.min() >= -1 and changed.max() <= 1
    assert len({tuple(row.flatten().tolist()) for row in changed}) == 8


def test_affine_flips_shifts_and_rotates_a_little() -> None:
    """A bright spot in the centre stays near it; one near a corner reaches all four corners over many draws."""
    torch.manual_seed(0)
    images = torch.full((200, 1, 33, 33), -1.0)
    images[:, :, 16, 16] = 1
    moved = affine(images)
    where = torch.stack([torch.stack([(m == m.max()).nonzero()[0][i] for m in moved[:, 0]]) for i in (0, 1)], 1)
    assert (where - 16).abs().max() <= 5
    assert (where - 16).abs().max() >= 2
    images = torch.full((200, 1, 33, 33), -1.0)
    images[:, :, 6:9, 6:9] = 1
    moved = affine(images)[:, 0] > 0
    for rows in (slice(0, 16), slice(17, 33)):
        for columns in (slice(0, 16), slice(17, 33)):
            assert moved[:, rows, columns].any()


def test_brightness_and_contrast_stay_within_their_limits() -> None:
    torch.manual_seed(0)
    flat = torch.zeros(500, 1, 4, 4)
    shifts = brightness_contrast(flat)[:, 0, 0, 0]
    assert 0.15 < shifts.abs().max() <= 0.2

    halves = torch.tensor([-0.25, 0.25]).repeat(8).view(1, 1, 4, 4).expand(500, 1, 4, 4)
    factor = brightness_contrast(halves).flatten(1).std(1) / halves.flatten(1).std(1)
    assert 0.79 < factor.min() < 0.82 and 1.18 < factor.max() < 1.21


def test_affine_turns_by_ten_degrees_and_shears_nothing() -> None:
    """Degrees by which a lying and a standing bar turn, from their principal axes, under the same draws."""

    def turned(standing: bool) -> torch.Tensor:
        images = torch.full((200, 1, 65, 65), -1.0)
        (images.transpose(2, 3) if standing else images)[:, :, 31:34, 8:57] = 1
        torch.manual_seed(0)
        bar, at = affine(images)[:, 0].clamp(min=0), torch.arange(65.0)
        weight = bar / bar.sum((1, 2), keepdim=True)
        y, x = (weight * at[:, None]).sum((1, 2)), (weight * at).sum((1, 2))
        dy, dx = at[:, None] - y[:, None, None], at - x[:, None, None]
        xy, xx, yy = ((weight * product).sum((1, 2)) for product in (dy * dx, dx * dx, dy * dy))
        angle = torch.rad2deg(torch.atan2(2 * xy, yy - xx if standing else xx - yy) / 2)
        return -angle if standing else angle

    lying, standing = turned(False), turned(True)
    assert 8 < lying.abs().max() < 10.5 and (lying - standing).abs().max() < 1
