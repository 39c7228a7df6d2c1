"""Intervals of means over runs and of paired differences (protocol, "What makes a comparison honest", item 4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special, stats
from scipy.sparse import csr_array
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

LEVEL = 0.95
POWER = 0.8  # of the smallest difference that n could have shown
_MIDPOINTS = (np.arange(4096) + 0.5) / 4096  # quantiles over which a power is averaged
NORMAL = float(stats.norm.ppf(0.5 + LEVEL / 2))
ALIKE = 1e-12  # standard errors up to this are rounding
SCENE_AND_RUN = "scene x run"
OVER_RUNS = "t over runs"
ONE_RUN = "Wilson, one run"
OF_CLASS = {"balanced_accuracy": "recall", "macro_f1": "f1"}  # overall metrics that are the mean of one of a class
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
    """A mean with its 95 % interval; `error` is its standard error on `freedom` degrees, None where n allows none."""

    mean: float
    low: float | None
    high: float | None
    n_runs: int
    method: str
    error: float | None = None
    freedom: float | None = None


def terms(tested: Answers, metric: str, n_classes: int, index: int | None = None) -> np.ndarray | None:
    """The first-order influence of each image on a metric, (N,); None for a metric that has no such form here.

    `index` is the class of a per-class metric; without it precision, recall, `mean_pr` and F1 are means over classes.
    """
    if metric == "accuracy" and index is None:
        right = (tested.label == tested.predicted).astype(float)
        return (right - right.mean()) / len(right)
    if metric in OVERLAP and index is None:
        return _part_terms(tested, OVERLAP[metric])
    of_class = OF_CLASS.get(metric, metric)
    if of_class not in ("precision", "recall", "mean_pr", "f1"):
        return None
    if index is not None:
        return _class_terms(tested, of_class, index)
    classes: Sequence[int] = range(n_classes)
    if metric == "balanced_accuracy":
        classes = [c for c in classes if (tested.label == c).any()]  # its mean is over the classes that are there
    return np.mean([_class_terms(tested, of_class, c) for c in classes], axis=0)


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


def mean_run(runs: Sequence[Run]) -> Run:
    """The mean of runs on the same test images, as one run: of classifiers, or of repeats of one cell."""
    value, moved = float(np.mean([run.value for run in runs])), [run.terms for run in runs if run.terms is not None]
    alike = len(moved) == len(runs) and len({len(part) for part in moved}) == 1
    return Run(value, runs[0].clusters, np.mean(moved, axis=0)) if alike else Run(value)


def unpaired(one: Run, other: Run) -> Run:
    """The difference of two runs whose test images are different ones; a scene of both counts as one cluster."""
    if one.terms is None or other.terms is None or one.clusters is None or other.clusters is None:
        return Run(one.value - other.value)
    return Run(
        one.value - other.value,
        np.concatenate([one.clusters, other.clusters]),
        np.concatenate([one.terms, -other.terms]),
    )


def estimate(runs: Sequence[Run], fraction: bool = True, wilson: bool = False, bounded: bool = True) -> Estimate:
    """The mean over runs with its 95 % interval: two-way clustered where all runs have terms, else a t over runs.

    `fraction`: values in [0, 1], else differences of such, or where not `bounded` any values; see `interval`. One run has
    no interval, but with `wilson` (accuracy) Wilson's with the number of images that its scenes are worth.
    """
    values = np.array([run.value for run in runs])
    mean = float(values.mean())
    clusters, moved, run_of = _pooled(runs, mean)
    if len(runs) == 1:
        if not wilson or clusters is None:
            return Estimate(mean, None, None, 1, "")
        low, high = _wilson(mean, _worth(mean, clusters, moved), NORMAL)
        return Estimate(mean, float(low), float(high), 1, ONE_RUN)
    if clusters is None:
        error, freedom, method = float(values.std(ddof=1) / np.sqrt(len(runs))), float(len(runs) - 1), OVER_RUNS
        worth = None
        if error <= ALIKE:  # equal runs without predictions: nothing is known of what others would be
            return Estimate(mean, None, None, len(runs), method, error, freedom)
    else:
        error, freedom = (float(value) for value in two_way(moved, clusters, run_of))
        method, worth = SCENE_AND_RUN, _kish(clusters)
    most = 1.0 if bounded else np.inf  # t on one degree of freedom goes beyond what is possible
    low, high = np.clip(interval(mean, error, freedom, fraction, worth), -most, most)
    return Estimate(mean, float(low), float(high), len(runs), method, error, freedom)


def interval(
    mean: ArrayLike, error: ArrayLike, freedom: ArrayLike, fraction: bool, worth: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the 95 % intervals of means (...) with standard errors (...) on degrees of freedom (...).

    A fraction's is Wilson's with the t quantile and the number of images that gives the same standard error, since a
    symmetric one is too short near 1; a difference's is symmetric. `worth`: how many independent images the scenes
    are worth, for answers that are all alike, where a width of zero would claim too much; None: not known.
    """
    mean, error = np.asarray(mean, float), np.asarray(error, float)
    quantile = stats.t.ppf(0.5 + LEVEL / 2, freedom)
    alike = (error <= ALIKE) & (worth is not None)
    if fraction:
        n = np.where(alike, worth or 1.0, mean * (1 - mean) / np.maximum(error, ALIKE) ** 2)
        low, high = _wilson(mean, np.maximum(n, ALIKE), np.where(alike, NORMAL, quantile))
        # runs without predictions that are all equal: nothing is known of their images
        known = alike | (error > ALIKE)
        return np.where(known, low, mean), np.where(known, high, mean)
    half = np.where(alike, _wilson(0.0, worth or 1.0, NORMAL)[1], quantile * error)
    return mean - half, mean + half


def two_way(moved: np.ndarray, clusters: np.ndarray, runs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standard error of a mean clustered by scene and by run, and its degrees of freedom, each (...).

    `moved` (..., M) are the observations' parts of the mean's deviation (they sum to 0), `clusters` and `runs` (M,)
    whole numbers from 0. The variance V_scene + V_run - V_both (Cameron, Gelbach and Miller 2011) is never taken below
    either one-way value. Degrees of freedom by Satterthwaite from the two: R - 1 of the runs; of the scenes what the
    scatter of their squared sums is worth, which is far below their number where few of them carry the errors.
    """
    by_scene, by_run = _sums(moved, clusters), _sums(moved, runs)
    _, both = np.unique(clusters * (runs.max() + 1) + runs, return_inverse=True)
    of_scene, of_run, of_both = one_way(by_scene), one_way(by_run), one_way(_sums(moved, both))
    variance = np.maximum(of_scene + of_run - of_both, np.maximum(of_scene, of_run))
    few = float(by_run.shape[-1] - 1)
    parts = of_scene**2 / _scene_freedom(by_scene) + of_run**2 / few
    some = parts > 0
    freedom = np.where(some, np.maximum(1.0, variance**2 / np.where(some, parts, 1.0)), few)
    return np.sqrt(variance), freedom


def one_way(sums: np.ndarray) -> np.ndarray:
    """Variance (...) of a mean from the clusters' parts (..., G) of its deviation, with the factor G / (G - 1)."""
    n = sums.shape[-1]
    return np.asarray(n / (n - 1) * (sums**2).sum(-1) if n > 1 else np.zeros(sums.shape[:-1]))


def p_value(found: Estimate) -> float | None:
    """Two-sided p of no difference, from the clustered standard error; None where there is none."""
    if not found.error or found.error <= ALIKE or found.freedom is None:
        return None
    return float(2 * stats.t.sf(abs(found.mean) / found.error, found.freedom))


def smallest_shown(found: Estimate) -> float | None:
    """The smallest true difference that a study of this standard error shows (p < 0.05) with probability 0.8."""
    if not found.error or found.error <= ALIKE or found.freedom is None:
        return None
    # the power of a t test is the mean, over what the standard error may come out as, of a normal's: noncentral t's own
    # distribution fails in scipy, and statsmodels with it, at few and at some 70 to 120 degrees of freedom
    spread = np.sqrt(stats.chi2.ppf(_MIDPOINTS, found.freedom) / found.freedom)
    edge = spread * stats.t.ppf(0.5 + LEVEL / 2, found.freedom)

    def lacking(shift: float) -> float:
        return float(np.mean(special.ndtr(shift - edge) + special.ndtr(-shift - edge))) - POWER

    return float(optimize.brentq(lacking, 0.0, 10 * edge.max())) * found.error


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values of one family, in the order given."""
    return [float(p) for p in multipletests(p_values, method="holm")[1]] if p_values else []


def _sums(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Sums (..., G) of values (..., M) by group (M,), whole numbers from 0."""
    indicator = csr_array((np.ones(len(groups)), (np.arange(len(groups)), groups)))
    return np.asarray(values @ indicator)


def _scene_freedom(sums: np.ndarray) -> np.ndarray:
    """2 V^2 / var(V) of V = sum of squares of sums (..., G), from the fourth moments; G - 1 at most, 1 at least."""
    n, squares = sums.shape[-1], sums**2
    scatter = (squares**2).sum(-1) - squares.sum(-1) ** 2 / n
    most = max(1.0, n - 1.0)
    some = scatter > 0
    return np.where(some, np.clip(2 * squares.sum(-1) ** 2 / np.where(some, scatter, 1.0), 1.0, most), most)


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
    """How many independent images the scenes are worth: by the scatter between scenes, else by their sizes."""
    variance = float(one_way(_sums(moved, clusters)))
    if variance > ALIKE**2 and 0 < mean < 1:
        return float(np.clip(mean * (1 - mean) / variance, 1.0, len(clusters)))
    return _kish(clusters)


def _kish(clusters: np.ndarray) -> float:
    sizes = np.bincount(clusters)
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def _wilson(share: ArrayLike, n: ArrayLike, z: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's interval for a share of n images with the quantile z, each (...)."""
    share, n = np.asarray(share, float), np.asarray(n, float)
    low, high = proportion_confint(share * n, n, alpha=2 * stats.norm.sf(z), method="wilson")
    # rounded, since all right is right up to 1 and not to 0.9999999999999999
    return np.clip(np.round(low, 12), 0.0, 1.0), np.clip(np.round(high, 12), 0.0, 1.0)
