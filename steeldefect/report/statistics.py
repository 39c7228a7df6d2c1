"""Intervals of means over runs and of paired differences (protocol, "What makes a comparison honest", item 4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import stats

LEVEL = 0.95
NORMAL = float(stats.norm.ppf(0.5 + LEVEL / 2))
SCENE_AND_RUN = "scene x run"
OVER_RUNS = "t over runs"
ONE_RUN = "Wilson, one run"
OVERLAP = {"accuracy_overlapping": 1, "accuracy_clean": 0}  # metric to the value of `overlaps` that it looks at


@dataclass(frozen=True, eq=False)
class Answers:
    """What one run answered on its test part, one entry an image; a scene of -1 is not known.

    overlaps: 1 where a training image shows the same surface, 0 where none does, -1 where that is not known.
    """

    image: np.ndarray
    scene: np.ndarray
    label: np.ndarray
    predicted: np.ndarray
    overlaps: np.ndarray

    @cached_property
    def clusters(self) -> np.ndarray:
        """Names (N,) of what is drawn as one: the scene, or the image itself where its scene is not known."""
        return np.where(self.scene >= 0, np.char.add("scene ", self.scene.astype(str)), self.image)


@dataclass(frozen=True, eq=False)
class Run:
    """One value of a metric; `terms` (N,) sum to 0 and say how much each test image moves it, None if not known."""

    value: float
    clusters: np.ndarray | None = None
    terms: np.ndarray | None = None


@dataclass(frozen=True)
class Estimate:
    mean: float
    low: float | None
    high: float | None
    n_runs: int
    method: str


def terms(tested: Answers, metric: str, n_classes: int, index: int | None = None) -> np.ndarray | None:
    """The first-order influence of each image on a metric, (N,); None for a metric that has no such form here.

    `index` is the class of a per-class metric; without it precision, recall, `mean_pr` and F1 are means over classes.
    """
    if metric == "accuracy" and index is None:
        right = (tested.label == tested.predicted).astype(float)
        return (right - right.mean()) / len(right)
    if metric in OVERLAP and index is None:
        return _part_terms(tested, OVERLAP[metric])
    of_class = {"balanced_accuracy": "recall", "macro_f1": "f1"}.get(metric, metric)
    if of_class not in ("precision", "recall", "mean_pr", "f1"):
        return None
    if index is not None:
        return _class_terms(tested, of_class, index)
    return np.mean([_class_terms(tested, of_class, c) for c in range(n_classes)], axis=0)


def _part_terms(tested: Answers, overlaps: int) -> np.ndarray | None:
    """Of the accuracy on the images that overlap (1) or do not (0); the others do not move it."""
    part = tested.overlaps == overlaps
    if not part.any():
        return None
    right = (tested.label == tested.predicted).astype(float)
    return np.where(part, right - right[part].mean(), 0.0) / part.sum()


def _class_terms(tested: Answers, metric: str, index: int) -> np.ndarray:
    if metric == "mean_pr":  # the paper's AP = (P + R) / 2
        return (_class_terms(tested, "precision", index) + _class_terms(tested, "recall", index)) / 2
    is_class, called = tested.label == index, tested.predicted == index
    hit = (is_class & called).astype(float)
    weight = {"recall": is_class, "precision": called, "f1": (is_class.astype(float) + called) / 2}[metric].astype(
        float
    )
    total = weight.sum()
    # a class that never occurs has the metric's fixed value, which no image moves
    return (hit - weight * hit.sum() / total) / total if total else np.zeros(len(hit))


def difference(one: Run, other: Run) -> Run:
    """The paired difference of two runs of one replicate; their terms must belong to the same images in one order."""
    known = one.terms is not None and other.terms is not None and len(one.terms) == len(other.terms)
    if not known or one.terms is None or other.terms is None:
        return Run(one.value - other.value)
    return Run(one.value - other.value, one.clusters, one.terms - other.terms)


def unpaired(one: Run, other: Run) -> Run:
    """The difference of two runs whose test images are different ones; a scene of both counts as one cluster."""
    if one.terms is None or other.terms is None or one.clusters is None or other.clusters is None:
        return Run(one.value - other.value)
    return Run(
        one.value - other.value,
        np.concatenate([one.clusters, other.clusters]),
        np.concatenate([one.terms, -other.terms]),
    )


def estimate(runs: Sequence[Run], fraction: bool = True, wilson: bool = False) -> Estimate:
    """The mean over runs with its 95 % interval: two-way clustered where all runs have terms, else a t over runs.

    `fraction`: values in [0, 1], whose interval is Wilson's with the t quantile and the number of images that gives
    the same standard error (at 99 % a symmetric one covers 82-92 % in simulation, this one 91-98 %); else
    differences, symmetric. One run has no interval, but with `wilson` (accuracy) Wilson's with the number of images
    that its scenes are worth.
    """
    values = np.array([run.value for run in runs])
    mean = float(values.mean())
    clusters, moved, run_of = _pooled(runs, mean)
    if len(runs) == 1:
        if not wilson or clusters is None:
            return Estimate(mean, None, None, 1, "")
        return Estimate(mean, *_wilson(mean, _worth(mean, clusters, moved), NORMAL), 1, ONE_RUN)
    if clusters is None:
        error, freedom, method = float(values.std(ddof=1) / np.sqrt(len(runs))), float(len(runs) - 1), OVER_RUNS
    else:
        error, freedom = two_way(moved, clusters, run_of)
        method = SCENE_AND_RUN
    quantile = float(stats.t.ppf(0.5 + LEVEL / 2, freedom))
    if fraction and error > 1e-12 and 0 < mean < 1:
        return Estimate(mean, *_wilson(mean, mean * (1 - mean) / error**2, quantile), len(runs), method)
    if fraction and clusters is not None:  # every answer alike: a width of zero would claim too much
        return Estimate(mean, *_wilson(mean, _worth(mean, clusters, moved), NORMAL), len(runs), method)
    return Estimate(mean, mean - quantile * error, mean + quantile * error, len(runs), method)


def two_way(moved: np.ndarray, clusters: np.ndarray, runs: np.ndarray) -> tuple[float, float]:
    """Standard error of a mean clustered by scene and by run, and its degrees of freedom.

    `moved` (M,) are the observations' parts of the mean's deviation (they sum to 0), `clusters` and `runs` (M,) whole
    numbers from 0. The variance V_scene + V_run - V_both is never taken below either one-way value. Degrees of freedom
    by Satterthwaite from the two: R - 1 of the runs; of the scenes what the scatter of their squared sums is worth,
    which is far below their number where few of them carry the errors.
    """
    by_scene = np.bincount(clusters, moved)
    by_run = np.bincount(runs, moved)
    _, both = np.unique(clusters * (runs.max() + 1) + runs, return_inverse=True)
    of_scene, of_run, of_both = _one_way(by_scene), _one_way(by_run), _one_way(np.bincount(both, moved))
    variance = max(of_scene + of_run - of_both, of_scene, of_run)
    if variance <= 0:
        return 0.0, float(len(by_run) - 1)
    parts = of_scene**2 / _scene_freedom(by_scene) + of_run**2 / (len(by_run) - 1)
    return float(np.sqrt(variance)), float(max(1.0, variance**2 / parts))


def _one_way(sums: np.ndarray) -> float:
    n = len(sums)
    return float(n / (n - 1) * (sums**2).sum()) if n > 1 else 0.0


def _scene_freedom(sums: np.ndarray) -> float:
    """2 V^2 / var(V) of V = sum of squares, from the fourth moments; G - 1 at most, 1 at least."""
    n, squares = len(sums), sums**2
    scatter = (squares**2).sum() - squares.sum() ** 2 / n
    most = max(1.0, n - 1.0)
    return float(np.clip(2 * squares.sum() ** 2 / scatter, 1.0, most)) if scatter > 0 else most


def _pooled(runs: Sequence[Run], mean: float) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Scene (numbered), part of the deviation and run of every observation; each run weighs the same."""
    parts, names, numbers = [], [], []
    for number, run in enumerate(runs):
        if run.terms is None or run.clusters is None:
            return None, np.zeros(0), np.zeros(0, dtype=np.int64)
        # what the run lies off the mean is shared out over its images
        parts.append((run.terms + (run.value - mean) / len(run.terms)) / len(runs))
        names.append(run.clusters)
        numbers.append(np.full(len(run.terms), number))
    _, clusters = np.unique(np.concatenate(names), return_inverse=True)
    return clusters, np.concatenate(parts), np.concatenate(numbers)


def _worth(mean: float, clusters: np.ndarray, moved: np.ndarray) -> float:
    """How many independent images the scenes are worth: by the scatter between scenes, else by their sizes (Kish)."""
    sizes = np.bincount(clusters)
    variance = _one_way(np.bincount(clusters, moved))
    if variance > 1e-24 and 0 < mean < 1:
        return float(np.clip(mean * (1 - mean) / variance, 1.0, len(clusters)))
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def _wilson(share: float, n: float, z: float) -> tuple[float, float]:
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # rounded, since all right is right up to 1 and not to 0.9999999999999999
    return round(float(max(0.0, centre - half)), 12), round(float(min(1.0, centre + half)), 12)
