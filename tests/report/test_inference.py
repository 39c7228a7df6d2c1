"""Known answers: statsmodels' clustered covariance, scipy's permutation test, Holm, power."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from steeldefect.report.statistics import (
    ALIKE,
    Estimate,
    Run,
    estimate,
    holm,
    one_way,
    p_value,
    scene_sums,
    sign_flip,
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


def test_scene_sums_add_up_to_the_mean_difference():
    rng = np.random.default_rng(4)
    runs = []
    for scenes in (["a", "a", "b", "c"], ["b", "c", "c", "d", "d", "d"]):
        moved = rng.choice([-1.0, 0.0, 1.0], len(scenes))
        runs.append(Run(moved.mean(), np.array(scenes), (moved - moved.mean()) / len(moved)))
    assert scene_sums(runs).sum() == pytest.approx(np.mean([run.value for run in runs]))
    assert len(scene_sums(runs)) == 4
    assert scene_sums([*runs, Run(0.1)]) is None


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
