"""A close look at single pairs: best shift, how distinct it is, and whether the overlapping pixels agree throughout."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from steeldefect.data.correlation import (
    correlation,
    highest,
    ncc,
    normalised,
    overlap_share,
    overlapping,
    second,
    shift_weights,
    spectra_of,
    to_shift,
)

# (quarter turns anticlockwise, then mirrored left to right) of the second image
View = tuple[int, bool]
PLAIN: View = (0, False)
# images kept ready: 2,000 of 200 x 200 take 0.6 GB
_KEPT = 2000
_BLOCK = 256
# parts of the overlap whose agreement is asked, share of the side
_PART = 0.125


@dataclass(frozen=True)
class Finding:
    """Pixel (y, x) of image a is pixel (y - dy, x - dx) of image b as `view` turns it.

    overlap: share of the area. score: NCC of the overlap after local contrast normalisation, in [-1, 1].
    distinctness: correlation here less that at the best other shift. agreement: share of parts that correlate.
    """

    a: int
    b: int
    dy: int
    dx: int
    overlap: float
    score: float
    distinctness: float
    agreement: float
    view: View = PLAIN


def seen_as(images: np.ndarray, view: View) -> np.ndarray:
    """(..., S, S) turned and mirrored."""
    turned = np.rot90(images, view[0], axes=(-2, -1))
    return np.ascontiguousarray(turned[..., ::-1] if view[1] else turned)


class Inspector:
    """images uint8 (N, S, S); `side`: the resolution at which distinctness is measured."""

    def __init__(self, images: np.ndarray, side: int, min_overlap: float) -> None:
        self.images, self.side = images, side
        self.weights = shift_weights(side, min_overlap)
        self._spectra: dict[tuple[int, View], np.ndarray] = {}
        self._full: dict[int, np.ndarray] = {}

    def distinctness(self, pairs: np.ndarray, view: View, pool: ThreadPoolExecutor) -> tuple[np.ndarray, np.ndarray]:
        """float64 (n,) distinctness and int64 (n, 2) shifts in full-size pixels of `pairs` (n, 2)."""
        values, shifts = np.empty(len(pairs)), np.empty((len(pairs), 2), np.int64)
        for start in range(0, len(pairs), _BLOCK):
            block = pairs[start : start + _BLOCK]
            self._prepare_spectra({(int(a), PLAIN) for a, _ in block} | {(int(b), view) for _, b in block}, pool)
            for k, (value, shift) in enumerate(pool.map(lambda pair: self._distinct(pair, view), block)):
                values[start + k], shifts[start + k] = value, shift
        return values, shifts

    def inspect(
        self, pairs: np.ndarray, shifts: np.ndarray, distinct: np.ndarray, view: View, pool: ThreadPoolExecutor
    ) -> list[Finding]:
        """The shifts made exact at full size, and what the overlapping pixels say there."""
        found: list[Finding] = []
        for start in range(0, len(pairs), _BLOCK):
            part = slice(start, start + _BLOCK)
            self._prepare_full({int(k) for k in pairs[part].ravel()}, pool)
            found += pool.map(
                lambda pair, shift, value: self._inspect(pair, shift, value, view),
                pairs[part],
                shifts[part],
                distinct[part],
            )
        return found

    def _distinct(self, pair: np.ndarray, view: View) -> tuple[float, np.ndarray]:
        left, right = self._spectra[int(pair[0]), PLAIN], self._spectra[int(pair[1]), view]
        maps = correlation(left[None], right[None], self.weights)
        value, at = highest(maps)
        shift = to_shift(at, len(self.weights))[0] * self.images.shape[1] / self.side
        return float(value[0] - second(maps, at, self.side)[0]), np.round(shift).astype(np.int64)

    def _inspect(self, pair: np.ndarray, shift: np.ndarray, distinct: float, view: View) -> Finding:
        a, b = int(pair[0]), int(pair[1])
        left, right = self._full[a], seen_as(self._full[b], view)
        size = left.shape[0]
        best = (-2.0, int(shift[0]), int(shift[1]))
        # halving steps: from one pixel of the coarse map down to one of the image
        step = 1 << max(0, int(np.ceil(np.log2(size / self.side))) - 1)
        while step:
            _, y, x = best
            steps = [(y + i * step, x + k * step) for i in (-1, 0, 1) for k in (-1, 0, 1)]
            tried = [(ncc(*overlapping(left, right, *at)), *at) for at in steps if overlap_share(*at, size) > 0]
            best = max(tried)
            step //= 2
        score, dy, dx = best
        agree = agreement(*overlapping(left, right, dy, dx), max(8, round(_PART * size)))
        return Finding(a, b, dy, dx, overlap_share(dy, dx, size), score, float(distinct), agree, view)

    def _prepare_spectra(self, keys: set[tuple[int, View]], pool: ThreadPoolExecutor) -> None:
        lacking = sorted(keys - self._spectra.keys())
        if len(self._spectra) + len(lacking) > _KEPT:
            self._spectra = {key: value for key, value in self._spectra.items() if key in keys}

        def one(key: tuple[int, View]) -> np.ndarray:
            features = normalised(self.images[key[0]][None], self.side)
            return np.asarray(spectra_of(seen_as(features, key[1]), len(self.weights))[0])

        self._spectra.update(zip(lacking, pool.map(one, lacking), strict=True))

    def _prepare_full(self, keys: set[int], pool: ThreadPoolExecutor) -> None:
        lacking = sorted(keys - self._full.keys())
        if len(self._full) + len(lacking) > _KEPT:
            self._full = {key: value for key, value in self._full.items() if key in keys}
        size = self.images.shape[1]
        made = pool.map(lambda k: normalised(self.images[k][None], size)[0], lacking)
        self._full.update(zip(lacking, made, strict=True))


def agreement(left: np.ndarray, right: np.ndarray, part: int) -> float:
    """Share of the parts of about `part` x `part` pixels, cut alike from two arrays, with an NCC above 0."""
    rows = np.array_split(np.arange(left.shape[0]), max(1, round(left.shape[0] / part)))
    columns = np.array_split(np.arange(left.shape[1]), max(1, round(left.shape[1] / part)))
    cuts = [np.s_[r[0] : r[-1] + 1, c[0] : c[-1] + 1] for r in rows for c in columns]
    return float(np.mean([ncc(left[cut], right[cut]) > 0 for cut in cuts]))
