"""Recognises a data set by what its images look like, whatever they are called and however they are stored.

A fingerprint is an 8 x 8 thumbnail at 4 bits a cell: enough to tell images apart, far too little to be one.
"""

import csv
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from steeldefect.data.correlation import area_weights

CELLS = 8
_LEVELS = 15
# root mean square difference of a cell, grey levels: JPEG at quality 75 and resizing stay below 1
TOLERANCE = 2.0


@dataclass(frozen=True)
class KnownSet:
    """names: one an image; scenes int64 (N,); pairs int64 (P, 2) indices of overlapping images, a < b."""

    name: str
    names: tuple[str, ...]
    fingerprints: np.ndarray
    scenes: np.ndarray
    pairs: np.ndarray


def thumbnails(images: np.ndarray) -> np.ndarray:
    """float32 (N, 64): mean grey of 8 x 8 cells of uint8 images (N, S, S)."""
    weights = area_weights(CELLS, images.shape[-1])
    parts = [weights @ images[k : k + 64].astype(np.float32) @ weights.T for k in range(0, len(images), 64)]
    return np.concatenate(parts).reshape(len(images), -1)


def pack(thumbs: np.ndarray) -> np.ndarray:
    """uint8 (N, 34) from `thumbnails`: the darkest and the brightest cell, then two cells a byte in between."""
    low, high = np.floor(thumbs.min(1)), np.ceil(thumbs.max(1))
    scaled = (thumbs - low[:, None]) / np.maximum(high - low, 1)[:, None] * _LEVELS
    cells = np.clip(np.round(scaled), 0, _LEVELS).astype(np.uint8)
    return np.concatenate([np.stack([low, high], 1).astype(np.uint8), cells[:, 0::2] << 4 | cells[:, 1::2]], 1)


def unpack(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 (N, 64) thumbnails and (N,) the distance, root mean square, within which an image is the same."""
    low, high = packed[:, 0].astype(np.float32), packed[:, 1].astype(np.float32)
    step = np.maximum(high - low, 1) / _LEVELS
    cells = np.stack([packed[:, 2:] >> 4, packed[:, 2:] & 15], 2).reshape(len(packed), -1)
    # rounding errs by step / sqrt(12)
    return low[:, None] + cells * step[:, None], TOLERANCE + 1.3 * step / np.sqrt(12)


def same(thumbs: np.ndarray, packed: np.ndarray) -> bool:
    """Whether image k looks like fingerprint k, for all k."""
    known, limits = unpack(packed)
    return len(thumbs) == len(known) and bool(np.all(_distance(thumbs - known) <= limits))


def match(thumbs: np.ndarray, packed: np.ndarray) -> np.ndarray | None:
    """int64 (N,): which fingerprint each image has, one to one and nearest in sum; None unless all have one."""
    known, limits = unpack(packed)
    if len(thumbs) != len(known):
        return None
    squared = (thumbs**2).sum(1)[:, None] - 2 * (thumbs @ known.T) + (known**2).sum(1)
    distance = np.sqrt(np.maximum(squared, 0) / thumbs.shape[1])
    # a sparse zero is no edge
    graph = csr_matrix(np.where(distance <= limits, distance + 1e-3, 0))
    if np.diff(graph.indptr).min() == 0:
        return None
    try:
        rows, columns = min_weight_full_bipartite_matching(graph)
    except ValueError:
        return None
    return np.asarray(columns[np.argsort(rows)], np.int64)


def known_sets() -> list[KnownSet]:
    """The data sets whose scenes are committed in `steeldefect/data/known/`."""
    folder = files("steeldefect.data") / "known"
    return [_read(folder, "neu_cls")]


def _read(folder: Traversable, name: str) -> KnownSet:
    scenes = _rows(folder / f"{name}_scenes.csv")
    index = {row["image"]: k for k, row in enumerate(scenes)}
    pairs = [(index[row["a"]], index[row["b"]]) for row in _rows(folder / f"{name}_pairs.csv")]
    with (folder / f"{name}_fingerprints.npy").open("rb") as file:
        fingerprints = np.load(file)
    numbers = np.array([int(row["scene"]) for row in scenes], np.int64)
    return KnownSet(name, tuple(index), fingerprints, numbers, np.array(pairs, np.int64).reshape(-1, 2))


def _rows(path: Traversable) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def _distance(difference: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt((difference**2).mean(1)))
