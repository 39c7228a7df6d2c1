"""How often the intervals of `statistics` hold the truth: synthetic studies of known accuracy, by the thousand."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from steeldefect.data.known import known_sets
from steeldefect.data.splits import make_split
from steeldefect.report.statistics import LEVEL, NORMAL, interval, one_way, two_way

# crossed: two splits, each with n_runs / 2 training seeds, as a pooled t over crossed seeds is fed
DESIGNS = ("grouped_cv", "grouped", "crossed")
RUNS, FEWER = (6, 10), (2, 4)  # runs a study, and of one that is not whole: of the splits of real studies alone
# standard deviations on the probit scale, where the answer to one image has a residual of 1
EFFECTS: Mapping[str, Mapping[str, float]] = {
    "mixed": {"scene": 0.7, "image": 0.5, "run": 0.1, "scene_by_arm": 0.4, "run_by_arm": 0.15},
    "scenes": {"scene": 1.0, "image": 0.5, "run": 0.05, "scene_by_arm": 0.8, "run_by_arm": 0.05},
    "runs": {"scene": 0.4, "image": 0.5, "run": 0.15, "scene_by_arm": 0.2, "run_by_arm": 0.3},
}
GAIN = {0.9: 0.03, 0.99: 0.004}  # what the better arm has above the first, by the accuracy of the first
ESTIMANDS = ("accuracy", "difference", "no difference")
CLUSTERED, OVER_RUNS, POOLED = "scene x run", "t over runs", "binomial, pooled images"
METHODS = (CLUSTERED, OVER_RUNS, POOLED)
BATCH = 50  # studies that share their splits and are computed together
COLUMNS = (
    *("design", "accuracy", "n_runs", "effects", "estimand", "truth", "method", "coverage", "coverage_low"),
    *("coverage_high", "width", "oracle_width", "width_ratio", "n_studies", "n_images", "n_scenes"),
    "coverage_narrow",  # in the third of the studies whose intervals are the narrowest
)


@dataclass(frozen=True)
class Scenario:
    design: str
    accuracy: float
    n_runs: int
    effects: str

    @property
    def title(self) -> str:
        return f"{self.design}, {100 * self.accuracy:g} %, {self.n_runs} runs, {self.effects}"


@dataclass(frozen=True)
class Design:
    """The test images (M,) of all runs one after the other, and run (M,) of each, whole numbers from 0."""

    images: np.ndarray
    runs: np.ndarray


def scenarios() -> list[Scenario]:
    """Those of fewer runs last, so that the others keep their random numbers."""
    return [
        Scenario(design, accuracy, n_runs, effects)
        for designs, runs in ((DESIGNS, RUNS), (DESIGNS[:2], FEWER))
        for design in designs
        for accuracy in GAIN
        for n_runs in runs
        for effects in EFFECTS
    ]


def coverage(scenario: Scenario, n_studies: int, seed: int) -> Iterator[dict[str, Any]]:
    """A row (`COLUMNS`) an estimand and method; fractions in [0, 1].

    The oracle's width is that of mean +- 1.96 true standard deviations, the latter from the studies themselves.
    """
    rng = np.random.default_rng([seed, scenarios().index(scenario)])
    found: dict[str, list[tuple[np.ndarray, dict[str, tuple[np.ndarray, np.ndarray]]]]] = {e: [] for e in ESTIMANDS}
    for number in range(-(-n_studies // BATCH)):
        design = _design(scenario.design, scenario.n_runs, number)
        arms = _answers(rng, design, scenario, min(BATCH, n_studies - number * BATCH))
        for estimand, part in zip(ESTIMANDS, _batch(design, arms), strict=True):
            found[estimand].append(part)
    truths = (scenario.accuracy, GAIN[scenario.accuracy], 0.0)
    for estimand, truth in zip(ESTIMANDS, truths, strict=True):
        oracle = 2 * NORMAL * float(np.concatenate([mean for mean, _ in found[estimand]]).std(ddof=1))
        for method in METHODS:
            low, high = (np.concatenate([ends[method][side] for _, ends in found[estimand]]) for side in (0, 1))
            right = (low <= truth) & (truth <= high)
            held, narrow = int(right.sum()), high - low <= np.quantile(high - low, 1 / 3)
            width = float((high - low).mean())
            row = {"design": scenario.design, "accuracy": scenario.accuracy, "n_runs": scenario.n_runs}
            row |= {"effects": scenario.effects, "estimand": estimand, "truth": truth, "method": method}
            row |= {"coverage": held / n_studies, "width": width, "oracle_width": oracle}
            row["coverage_low"], row["coverage_high"] = proportion_confint(held, n_studies, method="wilson")
            row |= {
                "width_ratio": width / oracle,
                "n_studies": n_studies,
                "coverage_narrow": float(right[narrow].mean()),
            }
            yield row | _sizes(_design(scenario.design, scenario.n_runs, 0))


def _sizes(design: Design) -> dict[str, int]:
    images = np.unique(design.images)
    return {"n_images": len(images), "n_scenes": len(np.unique(_neu()[1][images]))}


@cache
def _neu() -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Class and scene of NEU-CLS's images, (1800,), and its classes: scenes of 1 to 102 images."""
    known = known_sets()[0]
    names = [name.rpartition("_")[0] for name in known.names]
    classes = sorted(set(names))
    return np.array([classes.index(name) for name in names]), known.scenes, classes


@cache
def _design(name: str, n_runs: int, number: int) -> Design:
    """The `number`-th draw of the splits of a study, by the splits that real studies use."""
    labels, scenes, classes = _neu()
    tests = []
    for run in range(n_runs):
        if name == "grouped_cv":
            split = {"name": name, "folds": 3, "fold": run % 3, "validation_fraction": 0}
            seed = run // 3
        else:
            split = {"name": "grouped", "test_fraction": 0.3, "validation_fraction": 0}
            seed = run if name == "grouped" else 2 * run // n_runs
        tests.append(make_split(split, 1000 * number + seed, labels, scenes, classes).test)
    return Design(np.concatenate(tests), np.repeat(np.arange(n_runs), [len(test) for test in tests]))


def _answers(rng: np.random.Generator, design: Design, scenario: Scenario, n: int) -> list[np.ndarray]:
    """Right (1) or wrong (0), float32 (n, M), of three arms: the first, a better one, and one as good as the first.

    Scenes, images and runs move all arms alike; scenes and runs also each arm by itself.
    """
    effects, scenes = EFFECTS[scenario.effects], _neu()[1]
    n_scenes, n_runs, scene = int(scenes.max()) + 1, scenario.n_runs, scenes[design.images]

    def normal(size: int, key: str) -> np.ndarray:
        return np.float32(effects[key]) * rng.standard_normal((n, size), dtype=np.float32)

    shared = normal(n_scenes, "scene")[:, scene] + normal(len(scenes), "image")[:, design.images]
    shared += normal(n_runs, "run")[:, design.runs]
    # a probit with normal effects has the mean that it would have at the root of all variances
    spread = np.sqrt(1 + sum(value**2 for value in effects.values()))
    arms = []
    for gain in (0.0, GAIN[scenario.accuracy], 0.0):
        own = normal(n_scenes, "scene_by_arm")[:, scene] + normal(n_runs, "run_by_arm")[:, design.runs]
        noise = rng.standard_normal((n, len(scene)), dtype=np.float32)
        arms.append((shared + own + noise > -stats.norm.ppf(scenario.accuracy + gain) * spread).astype(np.float32))
    return arms


def _batch(
    design: Design, arms: list[np.ndarray]
) -> Iterator[tuple[np.ndarray, dict[str, tuple[np.ndarray, np.ndarray]]]]:
    """Means (n,) of each estimand and the ends of their intervals by method."""
    first, better, same = arms
    _, scene = np.unique(_neu()[1][design.images], return_inverse=True)
    n_runs = int(design.runs.max()) + 1
    weight = 1 / (np.bincount(design.runs)[design.runs] * n_runs)
    worth = float(len(scene) ** 2 / (np.bincount(scene) ** 2).sum())
    for values, fraction in ((first, True), (better - first, False), (same - first, False)):
        mean = values @ weight
        moved = (values - mean[:, None]) * weight
        error, freedom = two_way(moved, scene, design.runs)
        ends = {CLUSTERED: interval(mean, error, freedom, fraction, worth)}
        by_run = np.stack([moved[:, design.runs == run].sum(1) for run in range(n_runs)], axis=1)
        half = stats.t.ppf(0.5 + LEVEL / 2, n_runs - 1) * np.sqrt(one_way(by_run))
        ends[OVER_RUNS] = mean - half, mean + half
        # as two unpaired samples of independent images
        shares = [first] if fraction else [first, first + values]
        half = NORMAL * np.sqrt(sum(arm.mean(1) * (1 - arm.mean(1)) for arm in shares) / len(scene))
        ends[POOLED] = mean - half, mean + half
        yield mean, ends
