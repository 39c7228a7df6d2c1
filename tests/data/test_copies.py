import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from steeldefect.data.copies import nearest, pair_sheet, scene_weights, threshold


@pytest.fixture(scope="module")
def plates() -> np.ndarray:
    """Forty unrelated surfaces, 64 pixels a side."""
    grain = gaussian_filter(np.random.default_rng(0).normal(size=(40, 64, 64)), (0, 1, 1))
    return (128 + 40 * grain / grain.std()).clip(0, 255).astype(np.uint8)


def crop(plates: np.ndarray, k: int, dy: int, dx: int) -> np.ndarray:
    return plates[k, dy : dy + 32, dx : dx + 32]


def test_a_shifted_copy_of_a_training_image_is_found_and_an_unrelated_image_is_not(plates: np.ndarray) -> None:
    training = np.stack([crop(plates, k, 16, 16) for k in range(20)])
    held_out = np.stack([crop(plates, k, 16, 16) for k in range(20, 35)])
    limit = threshold(nearest(held_out, training, 0.25, "none", 1).value, None)
    brighter = (crop(plates, 3, 22, 10) // 2 + 90).astype(np.uint8)
    images = np.stack([brighter, crop(plates, 11, 16, 28), crop(plates, 36, 16, 16)])
    found = nearest(images, training, 0.25, "none", 1)
    assert found.partner[:2].tolist() == [3, 11]
    assert (found.value > limit).tolist() == [True, True, False]


def test_a_mirrored_copy_is_found_where_flips_are_looked_for(plates: np.ndarray) -> None:
    training = np.stack([crop(plates, k, 16, 16) for k in range(10)])
    mirrored = crop(plates, 4, 16, 20)[None, :, ::-1]
    plain, flips = (nearest(mirrored, training, 0.25, transforms, 1) for transforms in ("none", "flips"))
    assert flips.value[0] > 1.5 * plain.value[0] and flips.partner[0] == 4 and flips.view[0] == (0, True)
    picture = pair_sheet(mirrored, training, flips, ["scratches"], 1)
    assert picture.width > 2 * 128 and picture.height >= 128


def test_in_the_threshold_a_scene_counts_once() -> None:
    values = np.concatenate([np.linspace(0, 1, 99), np.full(400, 5.0)])
    scenes = np.concatenate([np.arange(99), np.full(400, 99)])
    assert threshold(values, None) == 5
    assert threshold(values, scenes) == 1  # 99 of 100 scenes
    assert scene_weights(np.array([4, 4, 7])).tolist() == [0.5, 0.5, 1]
