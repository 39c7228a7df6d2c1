"""KID, density and coverage, on points whose answer is known and on rendered steel."""

import numpy as np
import pytest
import torch

from steeldefect.data.rendered import CLASSES, render
from steeldefect.gan.features import FEATURES, feature_network, features_of
from steeldefect.gan.quality import Pool, density_coverage, diversity_shares, figures, kid, over_classes

LINE = torch.tensor([[0.0], [1.0], [2.0], [3.0]], dtype=torch.float64)


def pool(n: int, shift: float, seed: int, scenes: np.ndarray | None = None, label: int = 0) -> Pool:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, 16, 16), dtype=np.uint8)
    return Pool(images, np.full(n, label), torch.from_numpy(rng.normal(shift, 1, (n, 8))), scenes)


@pytest.mark.parametrize(
    ("others", "density", "coverage"),
    [
        ([0.0, 1.0, 2.0, 3.0], 1.0, 1.0),  # each in its own ball alone: the balls are open
        ([0.0, 0.0, 0.0, 0.0], 1.0, 0.25),  # collapsed
        ([0.5, 0.5], 2.0, 0.5),  # where two balls overlap
        ([9.0, 9.0], 0.0, 0.0),
    ],
)
def test_density_and_coverage_of_points_on_a_line(others: list[float], density: float, coverage: float) -> None:
    found = density_coverage(LINE, torch.tensor(others, dtype=torch.float64)[:, None], 1)
    assert found == (density, coverage)


def test_more_neighbours_than_points_are_all_of_them() -> None:
    assert density_coverage(LINE, LINE, 50) == density_coverage(LINE, LINE, 3)


def test_kid_is_unbiased_and_grows_with_the_distance() -> None:
    same = [kid(pool(20, 0, s).features, pool(20, 0, 100 + s).features) for s in range(40)]
    far = [kid(pool(20, 0, s).features, pool(20, 1, 100 + s).features) for s in range(40)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(40)
    assert min(same) < 0 < min(far)  # an estimate without bias is negative half of the time
    assert np.mean(far) > 5 * np.std(same)


def test_a_set_holds_one_image_a_scene_and_as_many_as_the_smallest_pool() -> None:
    scenes = np.repeat(np.arange(5), 4)
    of_scenes = pool(20, 0, 0, scenes)
    for seed in range(5):
        chosen = of_scenes.one_a_scene(0, np.random.default_rng(seed))
        assert sorted(scenes[chosen]) == [0, 1, 2, 3, 4]
    assert len(of_scenes.one_a_scene(1, np.random.default_rng(0))) == 0
    # one scene is too few to measure on, however many images it has
    found = figures(pool(20, 0, 0, np.zeros(20)), pool(20, 0, 1), pool(20, 0, 2), 1, 2, 3)
    assert found["kid"] == [None] and found["coverage"] == [None] and found["kid_between_classes"] == [None]


def test_synthetic_images_as_good_as_real_ones_get_their_figures_and_others_do_not() -> None:
    reference, real = pool(40, 0, 0), pool(60, 0, 1)
    good, bad = (figures(reference, real, made, 1, 8, 5) for made in (pool(300, 0, 2), pool(300, 2, 3)))
    assert good["kid"][0] == pytest.approx(good["kid_floor"][0], abs=0.5)
    assert good["coverage"][0] == pytest.approx(good["coverage_real"][0], abs=0.1)
    assert good["density"][0] == pytest.approx(good["density_real"][0], abs=0.2)
    assert bad["kid"][0] > good["kid"][0] + 5 and bad["coverage"][0] < 0.5 * bad["coverage_real"][0]
    assert bad["kid_floor"] == good["kid_floor"]
    assert figures(reference, real, pool(300, 0, 2), 1, 8, 5) == good


def test_a_collapsed_class_is_seen_by_coverage_and_diversity() -> None:
    reference, real, made = pool(40, 0, 0), pool(60, 0, 1), pool(300, 0, 2)
    one = Pool(made.images[:1].repeat(300, 0), made.labels, made.features[:1].repeat(300, 1))
    found = figures(reference, real, one, 1, 3, 5)
    assert found["diversity"] == [0] and diversity_shares(found) == [0]
    assert found["coverage"][0] < 0.5 * found["coverage_real"][0]
    # one image drawn over and over is one, wherever flips and shifts put it
    varied = Pool(made.images, made.labels, made.features, drawn=one.images)
    found = figures(reference, real, varied, 1, 3, 5)
    assert found["diversity"][0] > 0 and diversity_shares(found) == [0]


def test_means_leave_out_classes_without_a_figure() -> None:
    assert over_classes([1.0, None, 3.0]) == 2
    assert over_classes([None, None]) is None
    assert diversity_shares({"diversity_drawn": [None, 1.0], "diversity_real": [None, 4.0]}) == [None, 0.25]


Steel = tuple[np.ndarray, torch.Tensor, np.ndarray]


@pytest.fixture(scope="module")
def steel() -> Steel:
    """Images, features and labels of 16 images a class."""
    images, labels, _, _ = render(16, 32, 0, 0.3)
    return images, features_of(images, 64), labels


def test_features_are_finite_the_same_again_and_draw_no_random_number(steel: Steel) -> None:
    images, features, _ = steel
    assert features.shape == (16 * len(CLASSES), FEATURES) and bool(features.isfinite().all())
    feature_network.cache_clear()
    state = torch.get_rng_state()
    assert torch.allclose(features_of(images[:3], 64), features[:3], atol=1e-5)
    assert torch.equal(torch.get_rng_state(), state)
    assert not feature_network().train().training


def test_on_rendered_steel_a_class_is_nearer_to_itself_than_to_any_other(steel: Steel) -> None:
    _, features, labels = steel
    halves = [features[labels == c] for c in range(len(CLASSES))]
    own = [kid(half[::2], half[1::2]) for half in halves]
    between = [kid(a[::2], b[1::2]) for i, a in enumerate(halves) for j, b in enumerate(halves) if i != j]
    assert abs(np.mean(own)) < 0.2 * np.mean(between)
