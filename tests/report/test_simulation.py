import csv
from pathlib import Path

import numpy as np
import pytest

from steeldefect.report import simulation
from steeldefect.report.coverage import GATED, WANTED, WIDEST, write_coverage
from steeldefect.report.simulation import CLUSTERED, COLUMNS, ESTIMANDS, POOLED, Scenario, coverage, scenarios
from steeldefect.runs.errors import UserError

RESULTS = Path(__file__).resolve().parents[2] / "experiments" / "results" / "coverage" / "summary.csv"


@pytest.mark.parametrize("design", GATED)
@pytest.mark.parametrize("accuracy", [0.9, 0.99])
def test_intervals_hold_the_truth_and_are_not_too_wide(design, accuracy):
    """300 studies: a standard error of 1.3 points, so three of them below what 2,000 studies must reach."""
    for row in coverage(Scenario(design, accuracy, 6, "mixed"), 300, 3):
        if row["method"] == CLUSTERED:
            assert row["coverage"] > WANTED - 0.04
            assert row["width_ratio"] < WIDEST
        if row["method"] == POOLED:
            assert row["coverage"] < 0.9


def test_the_truth_is_the_mean_of_the_simulated_answers():
    """By Monte Carlo over 400 studies, for every effect: a wrong normalisation would be points away."""
    for effects in simulation.EFFECTS:
        scenario = Scenario("grouped_cv", 0.9, 6, effects)
        rng = np.random.default_rng(5)
        design = simulation._design("grouped_cv", 6, 0)
        arms = [simulation._answers(rng, design, scenario, 50) for _ in range(8)]
        means = np.array([[arm.mean(1) for arm in batch] for batch in arms]).transpose(1, 0, 2).reshape(3, -1)
        error = means.std(1) / np.sqrt(means.shape[1])
        assert (abs(means.mean(1) - [0.9, 0.93, 0.9]) < 4 * error).all()


def test_designs_are_those_of_the_studies():
    cv, crossed = simulation._design("grouped_cv", 6, 0), simulation._design("crossed", 6, 0)
    counts = np.bincount(cv.images, minlength=1800)
    assert (counts == 2).all()  # every image is tested once in each of two repeats
    tests = [set(crossed.images[crossed.runs == run].tolist()) for run in range(6)]
    assert tests[0] == tests[1] == tests[2] != tests[3] == tests[4] == tests[5]
    scenes = simulation._neu()[1]
    assert np.bincount(scenes).max() > 50 and (np.bincount(scenes) == 1).sum() > 100


def test_the_same_seed_gives_the_same_table():
    scenario = scenarios()[0]
    assert list(coverage(scenario, 60, 1)) == list(coverage(scenario, 60, 1))
    assert list(coverage(scenario, 60, 1)) != list(coverage(scenario, 60, 2))


def test_committed_coverage_is_whole_and_good_enough():
    with RESULTS.open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == len(scenarios()) * len(ESTIMANDS) * len(simulation.METHODS)
    ours = [
        row for row in rows if row["method"] == CLUSTERED and row["design"] in GATED and row["n_runs"] in ("6", "10")
    ]
    assert len(ours) == 72 and {row["n_studies"] for row in ours} == {"2000"}
    assert min(float(row["coverage"]) for row in ours) >= WANTED
    assert max(float(row["width_ratio"]) for row in ours) <= WIDEST


def test_figures_and_bad_numbers(tmp_path):
    with pytest.raises(UserError, match="studies=1: must be a whole number from 2 up"):
        write_coverage(tmp_path, 1, 0)
    with pytest.raises(UserError, match="seed=-1"):
        write_coverage(tmp_path, 10, -1)
    table = write_coverage(tmp_path, 4, 0)
    assert table.row_count == 12
    assert {path.name for path in tmp_path.iterdir()} == {"summary.csv", "README.md", "coverage.svg", "coverage.png"}
