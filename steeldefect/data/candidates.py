"""Which image pairs are worth a close look: correlation at low resolution, of every pair or of sums of images first."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from steeldefect.data.correlation import Level, chunks, correlation, highest


@dataclass(frozen=True)
class PairSpace:
    """The pairs (i, j), i < j, of one pass, j bundled into runs of images: a bundle costs one correlation.

    rows: the images i. bundles: arrays of images. partners[k]: which bundles hold partners of rows[k].
    """

    name: str
    rows: np.ndarray
    bundles: tuple[np.ndarray, ...]
    partners: tuple[np.ndarray, ...]

    def members(self, row: int, bundles: np.ndarray) -> np.ndarray:
        """The partners j > rows[row] in these bundles."""
        if not len(bundles):
            return np.empty(0, np.int64)
        js = np.concatenate([self.bundles[k] for k in bundles])
        return js[js > self.rows[row]]

    def count(self) -> int:
        return sum(len(self.members(row, bundles)) for row, bundles in enumerate(self.partners))


def within(name: str, members: np.ndarray, bundle: int) -> PairSpace:
    """All pairs of `members` (ascending), in bundles of `bundle` images."""
    bundles = chunks(members, bundle)
    partners = [np.arange(k // bundle, len(bundles)) for k in range(len(members))]
    return PairSpace(name, members, tuple(bundles), tuple(partners))


def across(labels: np.ndarray, bundle: int) -> PairSpace:
    """All pairs of images of different classes, the second pass."""
    bundles = [part for label in np.unique(labels) for part in chunks(np.flatnonzero(labels == label), bundle)]
    of_class = np.array([labels[part[0]] for part in bundles])
    last = np.array([part[-1] for part in bundles])
    partners = [np.flatnonzero((of_class != label) & (last > i)) for i, label in enumerate(labels)]
    return PairSpace("across classes", np.arange(len(labels)), tuple(bundles), tuple(partners))


@dataclass(frozen=True)
class Searcher:
    """`left` and `right`: the images, and the images as they lie beneath them (turned, mirrored), row for row."""

    left: Level
    right: Level
    pool: ThreadPoolExecutor

    def peaks(self, i: int, js: np.ndarray) -> np.ndarray:
        """float32 (len(js),): the highest correlation of image i with each of `js` over all shifts."""
        return self._peaks(i, self.right.spectra, js)

    def search(self, space: PairSpace, bundle_floor: float, floor: float) -> tuple[np.ndarray, np.ndarray]:
        """Pairs (n, 2) whose peak is above `floor` and these peaks; of bundles, those above `bundle_floor` alone."""
        sums = self._sums(space)

        def one(row: int) -> tuple[np.ndarray, np.ndarray]:
            i, bundles = int(space.rows[row]), space.partners[row]
            if sums is not None:
                bundles = bundles[self._peaks(i, sums, bundles) > bundle_floor]
            js = space.members(row, bundles)
            values = self.peaks(i, js)
            kept = values > floor
            return np.stack([np.full(kept.sum(), i, np.int64), js[kept]], 1), values[kept]

        found = list(self.pool.map(one, range(len(space.rows))))
        return np.concatenate([pairs for pairs, _ in found]), np.concatenate([values for _, values in found])

    def null(self, space: PairSpace, samples: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Peaks of at most `samples` pairs drawn from `space`, those pairs (n, 2), and peaks of as many bundles."""
        rng = np.random.default_rng(seed)
        drawn = [(row, bundles) for row, bundles in _draw(space, samples, rng) if len(bundles)]
        sums = self._sums(space)

        def one(task: tuple[int, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            i = int(space.rows[task[0]])
            js = space.members(*task)
            values = self.peaks(i, js)
            of_bundles = values if sums is None else self._peaks(i, sums, task[1])
            return np.stack([np.full(len(js), i, np.int64), js], 1), values, of_bundles

        found = list(self.pool.map(one, drawn))
        if not found:
            return np.empty((0, 2), np.int64), np.empty(0, np.float32), np.empty(0, np.float32)
        pairs, values, of_bundles = (np.concatenate(part) for part in zip(*found, strict=True))
        return pairs, values, of_bundles

    def _peaks(self, i: int, spectra: np.ndarray, rows: np.ndarray) -> np.ndarray:
        left = self.left.spectra[i][None]
        parts = [highest(correlation(left, spectra[part], self.left.weights))[0] for part in chunks(rows)]
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    def _sums(self, space: PairSpace) -> np.ndarray | None:
        """(bundles, P, P // 2 + 1), scaled so that unrelated bundles peak as high as unrelated images."""
        if all(len(part) == 1 for part in space.bundles):
            return None
        summed = [self.right.spectra[part].sum(0) / np.sqrt(len(part)) for part in space.bundles]
        return np.asarray(np.stack(summed))


def _draw(space: PairSpace, samples: int, rng: np.random.Generator) -> Iterator[tuple[int, np.ndarray]]:
    """(row, bundles) that hold about `samples` pairs, spread evenly over the space; all of it where it is smaller."""
    share = min(1.0, samples / max(1, space.count()))
    for row, bundles in enumerate(space.partners):
        yield row, bundles[rng.random(len(bundles)) < share]
