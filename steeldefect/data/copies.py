"""Synthetic images that repeat a training image: the audit's shift correlation (protocol, "Copies")."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from steeldefect.data.candidates import Searcher
from steeldefect.data.correlation import level, normalised
from steeldefect.data.inspection import View, seen_as
from steeldefect.data.overlaps import TRANSFORMS
from steeldefect.data.pictures import sheet

QUANTILE = 0.99  # of held-out real images lie at or under the threshold
BLOCK = 512  # training images whose spectra are in memory at once


@dataclass(frozen=True, eq=False)
class Nearest:
    """Of each of N images: the largest correlation (float32), with which training image (int64), and how that lay."""

    value: np.ndarray
    partner: np.ndarray
    view: list[View]


def nearest(images: np.ndarray, training: np.ndarray, min_overlap: float, transforms: str, threads: int) -> Nearest:
    """The training image that each image repeats most, at any shift that leaves `min_overlap` of the area common.

    uint8 `(N, S, S)` and `(M, S, S)`, S the generator's size; N x M x views correlations. The figure is the audit's:
    NCC of locally normalised images, spectra partly whitened, times the root of the overlap, which makes all shifts
    equally likely to be the largest by chance. transforms: none | flips | all, how a copy may have been turned.
    """
    size = images.shape[-1]
    best = np.full(len(images), -np.inf, np.float32)
    partner, view = np.zeros(len(images), np.int64), np.zeros(len(images), np.int64)
    views = TRANSFORMS[transforms]
    left = level(normalised(images, size), min_overlap)
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(training), BLOCK):
            features = normalised(training[start : start + BLOCK], size)
            everyone = np.arange(len(features))
            for number, turned in enumerate(views):
                searcher = Searcher(left, level(seen_as(features, turned), min_overlap), pool)
                found = pool.map(searcher.peaks, range(len(images)), [everyone] * len(images))
                for i, values in enumerate(found):
                    at = int(values.argmax())
                    if values[at] > best[i]:
                        best[i], partner[i], view[i] = values[at], start + at, number
    return Nearest(best, partner, [views[number] for number in view])


def threshold(values: np.ndarray, scenes: np.ndarray | None) -> float:
    """The 99 % quantile of `values` `(N,)` of held-out real images, each scene weighing the same."""
    weights = np.ones(len(values)) if scenes is None else scene_weights(scenes)
    return float(np.quantile(values, QUANTILE, weights=weights, method="inverted_cdf"))


def scene_weights(scenes: np.ndarray) -> np.ndarray:
    """`(N,)`: one over the size of each image's scene, the expected count of an image when one a scene is drawn."""
    _, inverse, counts = np.unique(scenes, return_inverse=True, return_counts=True)
    return np.asarray(1 / counts[inverse])


def pair_sheet(
    images: np.ndarray, training: np.ndarray, found: Nearest, names: Sequence[str], pairs: int
) -> Image.Image:
    """The `pairs` highest of `found`, a row each: the image and, as it lay, the training image; names `(N,)`."""
    order = np.argsort(-found.value, kind="stable")[:pairs]
    rows = [[images[i], seen_as(training[found.partner[i]], found.view[i])] for i in order]
    return sheet(np.array(rows), [f"{names[i]} {found.value[i]:.2f}" for i in order], min_side=128)
