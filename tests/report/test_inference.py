"""Known answers: statsmodels' clustered covariance, scipy's permutation test, Holm, power."""

from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from sklearn.metrics import accuracy_score, precision_recall_fscore_support
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from steeldefect.report.permutation import contributions, scene_sums, sign_flip
from steeldefect.report.statistics import (
    ALIKE,
    Answers,
    Estimate,
    Run,
    estimate,
    holm,
    one_way,
    p_value,
    smallest_shown,
    two_way,
)


def crossed(seed: int, n: int = 400, n_scenes: int = 40, n_runs: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values (n,), scenes of uneven sizes and runs, both with effects of their own."""
    rng = np.random.default_rng(seed)
    scenes = np.unique((n_scenes * rng.random(n) ** 2).astype(int), return_inverse=True)[1]
    runs = rng.integers(0, n_runs, n)
    values = rng.normal(size=n) + rng.normal(size=n_scenes)[scenes] + rng.normal(size=n_runs)[runs]
    return values, scenes, runs


@pytest.mark.parametrize("seed", range(4))
def test_variance_is_that_of_statsmodels(seed):
    values, scenes, runs = crossed(seed)
    model = sm.OLS(values, np.ones(len(values)))
    moved = (values - values.mean()) / len(values)
    ways = {}
    for name, groups in (("scene", scenes), ("run", runs)):
        theirs = model.fit(cov_type="cluster", cov_kwds={"groups": groups}).bse[0]
        ways[name] = one_way(np.bincount(groups, moved))
        assert np.sqrt(ways[name]) == pytest.approx(theirs, rel=1e-9)
    both = model.fit(cov_type="cluster", cov_kwds={"groups": np.stack([scenes, runs], 1)}).bse[0]
    error, _ = two_way(moved, scenes, runs)
    # here all three variances are positive and theirs is the largest, so no floor hides a difference
    assert both**2 > max(ways.values())
    assert error == pytest.approx(both, rel=1e-9)


def test_runs_weigh_the_same_as_in_weighted_least_squares():
    values, scenes, runs = crossed(9)
    keep = (runs > 0) | (np.arange(len(runs)) % 3 == 0)
    values, scenes, runs = values[keep], np.unique(scenes[keep], return_inverse=True)[1], runs[keep]
    of_run = [np.flatnonzero(runs == run) for run in range(5)]
    clusters = np.array([f"s{scene}" for scene in scenes])
    found = estimate(
        [Run(values[k].mean(), clusters[k], (values[k] - values[k].mean()) / len(k)) for k in of_run],
        fraction=False,
    )
    weights = 1 / np.bincount(runs)[runs]
    model = sm.WLS(values, np.ones(len(values)), weights=weights)
    theirs = model.fit(cov_type="cluster", cov_kwds={"groups": np.stack([scenes, runs], 1)})
    assert found.mean == pytest.approx(theirs.params[0])
    assert found.error == pytest.approx(theirs.bse[0], rel=1e-9)


def test_many_studies_at_once_are_each_as_alone():
    values, scenes, runs = crossed(2)
    moved = np.stack([values - values.mean(), np.roll(values - values.mean(), 7), np.zeros(len(values))]) / len(values)
    errors, freedoms = two_way(moved, scenes, runs)
    for row, error, freedom in zip(moved, errors, freedoms, strict=True):
        assert (error, freedom) == tuple(pytest.approx(float(alone)) for alone in two_way(row, scenes, runs))
    assert errors[2] == 0 and freedoms[2] == 4


def test_satterthwaite_lies_between_its_parts():
    """Where runs alone vary, R - 1; where scenes alone do, far more, but less with few large scenes."""
    rng = np.random.default_rng(0)
    scenes, runs = np.tile(np.arange(200), 6), np.repeat(np.arange(6), 200)
    by_run = np.array([3.0, -1, 2, -2, 0, -2])[runs] / 1200
    assert two_way(by_run, scenes, runs)[1] == pytest.approx(5, abs=0.1)
    effect = rng.normal(size=200)
    by_scene = (effect - effect.mean())[scenes] / 1200
    many = two_way(by_scene, scenes, runs)[1]
    heavy = np.where(np.arange(200) < 4, 10.0, 0.1) * np.where(np.arange(200) % 2, 1, -1)
    few = two_way((heavy - heavy.mean())[scenes] / 1200, scenes, runs)[1]
    assert 1 <= few < 10 < 60 < many <= 199


def test_sign_flips_are_scipys_where_all_can_be_tried():
    rng = np.random.default_rng(1)
    for n in (2, 4, 9, 12):
        sums = rng.normal(0.3, 1, n)
        theirs = stats.permutation_test((sums,), np.sum, permutation_type="samples", n_resamples=np.inf).pvalue
        assert sign_flip(sums) == pytest.approx(theirs)
        # scenes in which the arms do not differ change nothing
        assert sign_flip(np.concatenate([sums, np.zeros(500)])) == sign_flip(sums)
    assert sign_flip(np.zeros(30)) == 1.0


def test_sign_flips_at_random_agree_with_the_normal_limit():
    rng = np.random.default_rng(2)
    sums = rng.normal(0.1, 1, 300)
    z = sums.sum() / np.sqrt((sums**2).sum())
    assert sign_flip(sums) == pytest.approx(2 * stats.norm.sf(abs(z)), abs=0.015)
    assert sign_flip(np.full(300, 0.01)) == pytest.approx(1e-4)


def test_sign_flips_are_uniform_without_a_difference():
    """600 studies without a difference, 150 scenes of heavy-tailed sizes: p is uniform."""
    rng = np.random.default_rng(3)
    sizes = np.minimum(100, np.ceil(rng.pareto(1.3, 150)))
    found = [sign_flip(sizes * rng.normal(size=150)) for _ in range(600)]
    assert stats.kstest(found, "uniform").pvalue > 0.01
    shifted = [sign_flip(sizes * rng.normal(0.5, 1, size=150)) for _ in range(100)]
    assert stats.kstest(shifted, "uniform").pvalue < 1e-6


def two_runs(seed: int, n: int = 120, alike: float = 0.8) -> tuple[Answers, Answers]:
    """Two runs on the same images of three classes of uneven size, of which most are answered alike."""
    rng = np.random.default_rng(seed)
    label = rng.choice(3, n, p=[0.6, 0.3, 0.1])
    predicted = np.where(rng.random((2, n)) < 0.8, label, rng.choice(3, (2, n)))
    predicted[1] = np.where(rng.random(n) < alike, predicted[0], predicted[1])
    image = np.arange(n).astype(str)
    return tuple(Answers(image, np.arange(n) // 10, label, own, np.full(n, -1)) for own in predicted)


def of_classes(answers: Answers, metric: str) -> float:
    if metric == "accuracy":
        return float(accuracy_score(answers.label, answers.predicted))
    precision, recall, f1, _ = precision_recall_fscore_support(
        answers.label, answers.predicted, labels=range(3), average="macro", zero_division=0
    )
    kinds = {"precision": precision, "balanced_accuracy": recall, "macro_f1": f1, "mean_pr": (precision + recall) / 2}
    return float(kinds[metric])


OVER_CLASSES = ["accuracy", "balanced_accuracy", "macro_f1", "precision", "mean_pr"]


@pytest.mark.parametrize("metric", OVER_CLASSES)
def test_contributions_add_up_to_the_difference_and_images_answered_alike_add_nothing(metric: str) -> None:
    for seed in range(5):
        one, other = two_runs(seed)
        found = contributions(one, other, metric, 3)
        assert found.sum() == pytest.approx(of_classes(one, metric) - of_classes(other, metric), abs=1e-12)
        assert not found[one.predicted == other.predicted].any()
        assert contributions(one, other, "ece", 3) is None
    never = replace(one, predicted=np.where(one.predicted == 2, 0, one.predicted))
    found = contributions(never, other, metric, 3)  # one run calls no image of a class
    assert found.sum() == pytest.approx(of_classes(never, metric) - of_classes(other, metric), abs=1e-12)


@pytest.mark.parametrize("metric", OVER_CLASSES)
def test_flipping_contributions_is_swapping_the_answers_of_scenes(metric: str) -> None:
    """All 2^8 ways to swap what two runs answered within scenes, the metric computed anew each time."""
    one, other = two_runs(7, n=80, alike=0.5)
    swapped = []
    for pattern in range(2**8):
        turn = (pattern >> one.scene & 1).astype(bool)
        first, second = (
            replace(one, predicted=np.where(turn, b.predicted, a.predicted)) for a, b in ((one, other), (other, one))
        )
        swapped.append(of_classes(first, metric) - of_classes(second, metric))
    exact = float(np.mean(np.abs(swapped) >= abs(swapped[0]) - 1e-12))
    found = sign_flip(scene_sums([one.scene], [contributions(one, other, metric, 3)]))
    # the weights of two runs that call a class more and less often differ a little from swap to swap
    assert found == pytest.approx(exact, abs=1e-12 if metric in ("accuracy", "balanced_accuracy") else 0.04)


def test_scene_sums_add_up_to_the_mean_over_runs() -> None:
    parts = [np.array([0.1, 0.2, -0.3, 0.4]), np.array([0.5, -0.1])]
    found = scene_sums([np.array(["a", "a", "b", "c"]), np.array(["b", "d"])], parts)
    assert found == pytest.approx(np.array([0.3, 0.2, 0.4, -0.1]) / 2)


def test_holm_is_statsmodels():
    p = [0.04, 0.001, 0.03, 0.5, 0.011]
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert holm(p) == pytest.approx([0.09, 0.005, 0.09, 0.5, 0.044])
    assert holm([]) == []


def test_p_and_interval_say_the_same():
    for mean in (0.01, 0.03, 0.05):
        found = estimate([Run(mean - 0.02), Run(mean), Run(mean + 0.015), Run(mean + 0.01)], fraction=False)
        assert (p_value(found) < 0.05) == (found.low > 0 or found.high < 0)
    assert p_value(Estimate(0.1, None, None, 1, "")) is None


def test_the_smallest_difference_shown_has_the_power_that_it_claims():
    found = Estimate(0.0, -0.1, 0.1, 6, "", error=0.02, freedom=5.0)
    least = smallest_shown(found)
    power = TTestPower().power(least / (0.02 * np.sqrt(6)), nobs=6, alpha=0.05)
    assert power == pytest.approx(0.8, abs=1e-6)
    # by simulation: the t statistic of that true difference
    rng = np.random.default_rng(6)
    t = (least / 0.02 + rng.normal(size=200_000)) / np.sqrt(rng.chisquare(5, 200_000) / 5)
    assert (abs(t) > stats.t.ppf(0.975, 5)).mean() == pytest.approx(0.8, abs=0.005)
    assert smallest_shown(Estimate(0.0, 0.0, 0.0, 2, "", error=ALIKE / 2, freedom=1.0)) is None


def test_the_smallest_difference_shown_is_found_at_every_freedom():
    # statsmodels' solver is wrong under 1.5, and answers with an array around 70 to 120
    freedoms = np.geomspace(1, 600, 200)
    found = np.array([smallest_shown(Estimate(0.0, -0.1, 0.1, 6, "", error=0.02, freedom=f)) for f in freedoms])
    assert (np.diff(found) < 0).all()
    assert found[-1] == pytest.approx(0.02 * (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)), rel=0.01)
    rng = np.random.default_rng(6)
    for freedom in (1.0, 2.3):
        least = smallest_shown(Estimate(0.0, -0.1, 0.1, 6, "", error=0.02, freedom=freedom))
        t = (least / 0.02 + rng.normal(size=200_000)) / np.sqrt(rng.chisquare(freedom, 200_000) / freedom)
        assert (abs(t) > stats.t.ppf(0.975, freedom)).mean() == pytest.approx(0.8, abs=0.005)


def test_two_arms_that_never_differ_are_not_certainly_equal():
    clusters = np.repeat([f"s{k}" for k in range(25)], 4)
    same = Run(0.0, clusters, np.zeros(100))
    found = estimate([same, same], fraction=False)
    assert found.high == -found.low == pytest.approx(1.96**2 / (25 + 1.96**2), abs=1e-3)
    assert p_value(found) is None
