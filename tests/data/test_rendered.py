"""The drawn data set: deterministic, plate by plate, learnable, and not told apart by brightness alone."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from omegaconf import OmegaConf
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from steeldefect.data.rendered import CLASSES, DEFAULT_DIFFICULTY, render, render_plate, render_with_crops
from steeldefect.runs.errors import UserError

SIZE = 64


@pytest.fixture(scope="module")
def default_set():
    """The shipped size: 720 images at 128 pixels."""
    return render_with_crops(120, 128, 0)


def probe(features: np.ndarray, labels: np.ndarray, plates: np.ndarray) -> float:
    """Accuracy of logistic regression over five plate-disjoint folds."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    return float(cross_val_score(model, features, labels, groups=plates, cv=GroupKFold(5)).mean())


def texture(images: np.ndarray) -> np.ndarray:
    """Energy, skewness, kurtosis and direction of three band-passes of each image at 64 pixels, standardised."""
    fine = images.shape[1] // 64
    small = images.reshape(len(images), 64, fine, 64, fine).mean(axis=(2, 4), dtype=np.float32)
    small = (small - small.mean((1, 2), keepdims=True)) / small.std((1, 2), keepdims=True)
    columns = []
    blurred = [small] + [ndimage.gaussian_filter(small, (0, sigma, sigma), truncate=3) for sigma in (0.8, 1.6, 3.2)]
    for finer, coarser in pairwise(blurred):
        band = finer - coarser
        std = band.std((1, 2))
        columns += [np.log(std), (band**3).mean((1, 2)) / std**3, np.log((band**4).mean((1, 2)) / std**4)]
        columns += [np.log(np.abs(np.diff(band, axis=axis)).mean((1, 2)) / std) for axis in (1, 2)]
    return np.stack(columns, axis=1)


def overlaps(crops, size):
    """Pairs of crops of one plate that share over a tenth of their pixels, and the slices of what they share."""
    for first in range(len(crops)):
        for second in range(first + 1, len(crops)):
            a, b = crops[first], crops[second]
            if a.plate != b.plate:
                break
            dy, dx = b.top - a.top, b.left - a.left
            height, width = size - abs(dy), size - abs(dx)
            if height <= 0 or width <= 0 or height * width < 0.1 * size**2:
                continue
            in_a = np.s_[max(dy, 0) : max(dy, 0) + height, max(dx, 0) : max(dx, 0) + width]
            in_b = np.s_[max(-dy, 0) : max(-dy, 0) + height, max(-dx, 0) : max(-dx, 0) + width]
            yield first, second, in_a, in_b


def test_same_seed_same_bytes_and_another_seed_differs():
    images, _, _, names = render(4, SIZE, 3)
    again = render(4, SIZE, 3)
    other = render(4, SIZE, 4)
    assert images.tobytes() == again[0].tobytes()
    assert names == again[3]
    assert (images != other[0]).mean() > 0.5


def test_counts_shapes_and_names(default_set):
    images, labels, plates, names, crops = default_set
    assert images.shape == (720, 128, 128)
    assert images.dtype == np.uint8
    assert labels.dtype == plates.dtype == np.int64
    assert Counter(labels.tolist()) == dict.fromkeys(range(6), 120)
    assert len(set(names)) == len(names) == len(crops) == 720
    assert all(name.startswith(f"{CLASSES[label]}_p") for name, label in zip(names, labels, strict=True))
    assert plates.tolist() == [crop.plate for crop in crops]
    # dense ids, and no plate of two classes
    assert sorted(set(plates.tolist())) == list(range(plates.max() + 1))
    assert all(len(set(labels[plates == plate].tolist())) == 1 for plate in range(plates.max() + 1))


def test_plates_are_heavy_tailed(default_set):
    sizes = np.bincount(default_set[2])
    assert 0.3 < (sizes == 1).mean() < 0.7
    assert sizes.max() >= 7
    assert sizes[sizes > 1].sum() > 0.6 * sizes.sum()


def test_larger_set_appends_only():
    few, more = render(3, SIZE, 0), render(7, SIZE, 0)
    where = {name: k for k, name in enumerate(more[3])}
    assert set(few[3]) <= set(where)
    for image, name in zip(few[0], few[3], strict=True):
        np.testing.assert_array_equal(image, more[0][where[name]])


@pytest.mark.parametrize("size", [64, 100, 128])
def test_overlapping_crops_agree_where_their_boxes_say(size):
    images, _, _, _, crops = render_with_crops(12, size, 1)
    seen, displaced = [], []
    for first, second, in_a, in_b in overlaps(crops, size):
        view = images[first][in_a].astype(float)
        # each crop has its own small gain and offset, so views are compared by correlation
        seen.append(np.corrcoef(view.ravel(), images[second][in_b].ravel())[0, 1])
        displaced.append(np.corrcoef(np.roll(view, 3, axis=1).ravel(), images[second][in_b].ravel())[0, 1])
    assert len(seen) > 20
    assert min(seen) > 0.97
    # the boxes are exact: three pixels aside the agreement is gone
    assert np.mean(displaced) < 0.8


def test_every_crop_of_a_plate_overlaps_another():
    crops = render_with_crops(12, SIZE, 1)[4]
    linked = {k for first, second, *_ in overlaps(crops, SIZE) for k in (first, second)}
    sizes = Counter(crop.plate for crop in crops)
    assert linked == {k for k, crop in enumerate(crops) if sizes[crop.plate] > 1}


def test_crops_per_plate_is_obeyed():
    plates = render(5, 32, 0, crops_per_plate=(1, 1))[2]
    assert np.bincount(plates).tolist() == [1] * 30


def test_brightness_and_contrast_do_not_tell_the_class(default_set):
    images, labels, plates, *_ = default_set
    pixels = images.astype(float)
    accuracy = probe(np.c_[pixels.mean((1, 2)), pixels.var((1, 2))], labels, plates)
    assert 1 / 6 < accuracy < 0.6


def test_texture_tells_the_class(default_set):
    images, labels, plates, *_ = default_set
    assert probe(texture(images), labels, plates) > 0.9


def test_harder_is_harder(default_set):
    hard, easy = (render(60, SIZE, 0, difficulty) for difficulty in (1.0, 0.0))
    assert probe(texture(hard[0]), hard[1], hard[2]) < probe(texture(easy[0]), easy[1], easy[2]) - 0.1


def test_plate_for_an_audit_is_deterministic_and_periodic_plates_look_alike():
    plain = render_plate("crazing", 5, 150, 170)
    assert plain.shape == (150, 170)
    assert plain.dtype == np.uint8
    np.testing.assert_array_equal(plain, render_plate("crazing", 5, 150, 170))
    for name in CLASSES:
        first, second = (render_plate(name, seed, 160, 160, periodic=True).astype(float) for seed in (0, 1))
        # strangers that correlate as only overlapping crops should, though their noise differs
        assert 0.5 < np.corrcoef(first.ravel(), second.ravel())[0, 1] < 0.98
        assert (first - second).std() > 5
    strangers = [render_plate("pitted_surface", seed, 160, 160).astype(float).ravel() for seed in (0, 1)]
    assert abs(np.corrcoef(*strangers)[0, 1]) < 0.4


@pytest.mark.parametrize(
    ("key", "arguments"),
    [
        ("dataset.per_class=0", (0, 64, 0)),
        ("dataset.image_size=8", (1, 8, 0)),
        ("dataset.seed=-1", (1, 64, -1)),
        ("dataset.difficulty=1.5", (1, 64, 0, 1.5)),
        ("dataset.crops_per_plate=3..2", (1, 64, 0, 0.5, (3, 2))),
    ],
)
def test_errors_name_the_key(key, arguments):
    with pytest.raises(UserError, match=key.replace(".", r"\.")):
        render(*arguments)


def test_unknown_class_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'scratches'"):
        render_plate("scratch", 0, 64, 64)


def test_config_holds_the_tuned_default(pytestconfig):
    config = OmegaConf.load(pytestconfig.rootpath / "conf/dataset/rendered.yaml")
    assert config.difficulty == DEFAULT_DIFFICULTY
    assert (config.name, config.image_size, config.per_class, config.seed) == ("rendered", 128, 120, 0)
