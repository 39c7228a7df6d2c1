"""Sign-flip permutation of a paired difference by scene: the second opinion beside the interval (protocol, "Intervals")."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from steeldefect.report.statistics import ALIKE, OF_CLASS, Answers

DRAWS = 9999  # sign flips; where fewer exist, all of them


def contributions(one: Answers, other: Answers, metric: str, n_classes: int) -> np.ndarray | None:
    """What each image adds to the difference of two runs in a metric over all classes, (N,); they sum to it.

    An image that both answer alike adds nothing. None for a metric that has no such form here. The answers must belong to
    the same images in one order.
    """
    if metric == "accuracy":
        return ((one.predicted == one.label).astype(float) - (other.predicted == other.label)) / len(one.label)
    of_class = OF_CLASS.get(metric, metric)
    if of_class not in ("precision", "recall", "mean_pr", "f1"):
        return None
    classes = [c for c in range(n_classes) if metric != "balanced_accuracy" or (one.label == c).any()]
    kinds = ("precision", "recall") if of_class == "mean_pr" else (of_class,)
    return np.mean([_of_class(one, other, kind, c) for kind in kinds for c in classes], axis=0)


def _of_class(one: Answers, other: Answers, kind: str, index: int) -> np.ndarray:
    """Of precision, recall or F1 of one class: all are hits H over a weight W of each run.

    H1 / W1 - H2 / W2 = (dH - F dW) W / (W1 W2), d the difference of the two, W the mean of their weights and F their pooled
    H / W, which is linear in the images and does not change where a scene's answers are swapped.
    """
    hits, weights = [], []
    for answers in (one, other):
        is_class, called = (answers.label == index).astype(float), (answers.predicted == index).astype(float)
        hits.append(is_class * called)
        weights.append({"recall": is_class, "precision": called, "f1": (is_class + called) / 2}[kind])
    totals = [float(weight.sum()) for weight in weights]
    if not all(totals):  # a class that a run never calls has a precision of 0
        return hits[0] / (totals[0] or 1.0) - hits[1] / (totals[1] or 1.0)
    pooled = (hits[0].sum() + hits[1].sum()) / sum(totals)
    moved = hits[0] - hits[1] - pooled * (weights[0] - weights[1])
    return np.asarray(moved * sum(totals) / 2 / (totals[0] * totals[1]))


def scene_sums(clusters: Sequence[np.ndarray], parts: Sequence[np.ndarray]) -> np.ndarray:
    """What each scene adds to the mean difference over runs, (G,): of each run the scenes (N,) and `contributions` (N,)."""
    _, scenes = np.unique(np.concatenate(list(clusters)), return_inverse=True)
    return np.bincount(scenes, np.concatenate(list(parts))) / len(parts)


def sign_flip(sums: np.ndarray) -> float:
    """Two-sided p of no difference, from flipping the signs of the scenes' sums (G,) against each other.

    Exact where the scenes that differ have at most `DRAWS` sign patterns, else from that many random ones (seeded).
    Takes the runs as they are: a generator or a training that happened to be good is not counted as chance.
    """
    sums = sums[np.abs(sums) > ALIKE]
    if len(sums) == 0:
        return 1.0
    # counted with what rounding leaves: patterns that give the same sum are ties
    least = abs(sums.sum()) - 1e-6 * np.abs(sums).sum()
    exact = 2 ** len(sums) <= DRAWS
    signs = _all_signs(len(sums)) if exact else _random_signs(-(-len(sums) // 128) * 128)
    extreme = int((np.abs(signs[:, : len(sums)] @ sums.astype(np.float32)) >= least).sum())
    return extreme / len(signs) if exact else (extreme + 1) / (len(signs) + 1)


def _all_signs(n: int) -> np.ndarray:
    return (1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)).astype(np.float32)


@lru_cache(maxsize=8)
def _random_signs(n: int) -> np.ndarray:
    """(DRAWS, n), the same for every contrast, so that drawing them costs nothing."""
    return (2 * np.random.default_rng(0).integers(0, 2, (DRAWS, n), dtype=np.int8) - 1).astype(np.float32)
