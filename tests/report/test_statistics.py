import numpy as np
import pytest
from scipy import stats

from steeldefect.report.statistics import (
    ONE_RUN,
    OVER_RUNS,
    SCENE_AND_RUN,
    Answers,
    Run,
    difference,
    estimate,
    terms,
    two_way,
)


def make_tested(label, predicted, scene=None) -> Answers:
    n = len(label)
    names = np.array([f"image_{k:04d}" for k in range(n)])
    scenes = np.array(scene if scene is not None else [-1] * n)
    return Answers(names, scenes, np.array(label), np.array(predicted), np.full(n, -1))


def metric_of(tested: Answers, metric: str, index: int) -> float:
    hit = ((tested.label == index) & (tested.predicted == index)).sum()
    precision, recall = hit / (tested.predicted == index).sum(), hit / (tested.label == index).sum()
    if metric == "f1":
        return 2 * precision * recall / (precision + recall)
    return {"precision": precision, "recall": recall, "mean_pr": (precision + recall) / 2}[metric]


@pytest.mark.parametrize("metric", ["precision", "recall", "mean_pr", "f1"])
def test_terms_say_how_much_an_image_moves_the_metric(metric):
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 3000)
    predicted = np.where(rng.random(3000) < 0.3, rng.integers(0, 3, 3000), label)
    tested = make_tested(label, predicted)
    moved = terms(tested, metric, 3, 1)
    assert moved.sum() == pytest.approx(0, abs=1e-12)
    for k in (0, 1, 2, 17, 400):
        keep = np.arange(3000) != k
        without = Answers(tested.image[keep], tested.scene[keep], label[keep], predicted[keep], tested.overlaps[keep])
        change = metric_of(tested, metric, 1) - metric_of(without, metric, 1)
        assert change == pytest.approx(moved[k], abs=2e-6)


def test_terms_of_overall_metrics_are_means_over_classes():
    tested = make_tested([0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 2, 0])
    by_class = [terms(tested, "recall", 3, c) for c in range(3)]
    assert terms(tested, "balanced_accuracy", 3) == pytest.approx(np.mean(by_class, axis=0))
    assert terms(tested, "accuracy", 3) == pytest.approx((np.array([1, 0, 1, 1, 1, 0]) - 4 / 6) / 6)
    assert terms(tested, "ece", 3) is None


def test_a_class_without_test_images_is_not_in_the_balanced_accuracy_nor_in_its_terms():
    """As scikit-learn has it: class 2 is never the truth, though it is answered."""
    tested = make_tested([0, 0, 0, 1], [0, 0, 2, 1])
    of_present = [terms(tested, "recall", 3, c) for c in (0, 1)]
    assert terms(tested, "balanced_accuracy", 3) == pytest.approx(np.mean(of_present, axis=0))


def test_terms_of_a_part_leave_the_other_images_out():
    tested = make_tested([0, 0, 1, 1], [0, 1, 1, 1])
    tested = Answers(tested.image, tested.scene, tested.label, tested.predicted, np.array([1, 1, 0, 0]))
    assert terms(tested, "accuracy_overlapping", 2) == pytest.approx([0.25, -0.25, 0, 0])
    assert terms(tested, "accuracy_clean", 2) == pytest.approx([0, 0, 0, 0])
    assert terms(make_tested([0], [0]), "accuracy_clean", 2) is None


def test_two_way_by_hand():
    """Two scenes by two runs, one observation each: sums by scene (3, -3), by run (1, -1), of the pairs themselves."""
    moved = np.array([2.0, 1.0, -1.0, -2.0])
    error, freedom = two_way(moved, np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))
    of_scene, of_run, of_both = 2 * 18, 2 * 2, 4 / 3 * 10
    variance = max(of_scene + of_run - of_both, of_scene, of_run)
    assert error == pytest.approx(np.sqrt(variance)) == pytest.approx(6.0)
    assert freedom == pytest.approx(36**2 / (36**2 + 4**2), abs=0.05)


def test_never_narrower_than_either_way_alone():
    rng = np.random.default_rng(3)
    for _ in range(50):
        clusters, runs = rng.integers(0, 12, 200), rng.integers(0, 4, 200)
        moved = rng.normal(size=200)
        moved -= moved.mean()
        error, freedom = two_way(moved, clusters, runs)
        for group in (clusters, runs):
            sums = np.bincount(group, moved)
            assert error**2 >= len(sums) / (len(sums) - 1) * (sums**2).sum() - 1e-9
        assert freedom >= 1


def test_without_predictions_a_t_interval_over_runs():
    found = estimate([Run(0.02), Run(0.04), Run(0.03)], fraction=False)
    half = stats.t.ppf(0.975, 2) * 0.01 / np.sqrt(3)
    assert (found.method, found.n_runs) == (OVER_RUNS, 3)
    assert (found.low, found.high) == pytest.approx((0.03 - half, 0.03 + half))
    inside = estimate([Run(0.98), Run(1.0)])
    assert 0 < inside.low < 0.99 < inside.high <= 1


def test_a_difference_of_fractions_ends_at_one():
    """Two runs far apart: t on one degree of freedom would go beyond what is possible."""
    found = estimate([Run(0.3), Run(-0.1)], fraction=False)
    assert (found.mean, found.low, found.high) == (pytest.approx(0.1), -1, 1)


def test_one_run_has_wilsons_interval_for_accuracy_alone():
    tested = make_tested([0] * 100, [0] * 90 + [1] * 10)
    run = Run(0.9, tested.clusters, terms(tested, "accuracy", 2))
    assert estimate([run]).low is None
    found = estimate([run], wilson=True)
    assert found.method == ONE_RUN
    # statsmodels' Wilson for 90 of 100 is (0.8256, 0.9448); the cluster correction G / (G - 1) costs 1 % of n
    assert (found.low, found.high) == pytest.approx((0.8256, 0.9448), abs=2e-3)
    same_scene = make_tested([0] * 100, [0] * 90 + [1] * 10, scene=np.arange(100) // 10)
    wide = estimate([Run(0.9, same_scene.clusters, terms(same_scene, "accuracy", 2))], wilson=True)
    assert wide.high - wide.low > 2 * (found.high - found.low)


def test_all_right_is_not_certain():
    tested = make_tested([0, 1] * 50, [0, 1] * 50, scene=np.arange(100) // 4)
    run = Run(1.0, tested.clusters, terms(tested, "accuracy", 2))
    found = estimate([run, run])
    assert found.high == 1 and found.low == pytest.approx(25 / (25 + 1.96**2), abs=1e-3)


def test_difference_is_paired_by_image():
    one, other = make_tested([0] * 10, [0] * 9 + [1]), make_tested([0] * 10, [0] * 8 + [1] * 2)
    runs = [Run(v, t.clusters, terms(t, "accuracy", 2)) for v, t in ((0.9, one), (0.8, other))]
    paired = difference(*runs)
    assert paired.value == pytest.approx(0.1)
    # one image alone was answered differently
    assert np.round(paired.terms * 10, 6).tolist() == [-0.1] * 8 + [0.9, -0.1]


def study(rng, n_runs: int, truth: float, effect: float) -> tuple[list[Run], list[Run]]:
    """Two arms in folds of scenes of heavy-tailed sizes, with scene, run and image effects on a probit scale."""
    sizes = np.minimum(40, np.ceil(rng.pareto(1.3, 160) + 0.01)).astype(int)
    scene = np.repeat(np.arange(len(sizes)), sizes)
    spread = np.sqrt(1 + 0.7**2 + 0.15**2)
    of_scene = rng.normal(0, 0.7, len(sizes))
    arms: tuple[list[Run], list[Run]] = ([], [])
    for r in range(n_runs):
        fold = rng.integers(0, 3, len(sizes)) if r % 3 == 0 else fold  # noqa: F821
        held = scene[fold[scene] == r % 3]
        image = rng.normal(0, 0.7, len(held))
        for arm, share in zip(arms, (truth, truth + effect), strict=True):
            noise = image + rng.normal(0, np.sqrt(1 - 0.49), len(held)) + rng.normal(0, 0.15)
            right = stats.norm.ppf(share) * spread + of_scene[held] + noise > 0
            tested = make_tested(np.zeros(len(held), int), 1 - right, held)
            arm.append(Run(right.mean(), tested.clusters, terms(tested, "accuracy", 2)))
    return arms


def test_coverage():
    """Both the level and the paired difference, against a known truth; 300 studies, so +-2.5 points of noise."""
    rng = np.random.default_rng(11)
    level, contrast = [], []
    for _ in range(300):
        one, other = study(rng, 6, 0.9, 0.04)
        found = estimate(one)
        level.append(found.low <= 0.9 <= found.high)
        paired = estimate([difference(b, a) for a, b in zip(one, other, strict=True)], fraction=False)
        assert paired.method == SCENE_AND_RUN
        contrast.append(paired.low <= 0.04 <= paired.high)
    assert np.mean(level) >= 0.9
    assert np.mean(contrast) >= 0.9
