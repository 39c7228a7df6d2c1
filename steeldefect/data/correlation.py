"""Shift correlation of many image pairs: band-passed features, partly whitened spectra, peaks, NCC of an overlap."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
from scipy.ndimage import gaussian_filter

# widths in shares of the image side: what is wider than HIGH_PASS is lighting, CONTRAST is the window of local contrast
HIGH_PASS, CONTRAST = 0.04, 0.05
# |F|^-WHITENING flattens the spectrum: lines and gratings lose their ridges, a shared surface keeps one sharp peak
WHITENING = 0.7
# a peak's own neighbourhood, share of the side, within which no second peak is looked for
PEAK_RADIUS = 0.04
_CHUNK = 64
# maps of so many pairs at 64 px fit a core's cache: a third faster than larger runs
_CACHED = 8


@dataclass(frozen=True)
class Level:
    """Images of one resolution, ready for correlation.

    spectra complex64 (N, P, P // 2 + 1); weights float32 (P, P), see `shift_weights`.
    """

    spectra: np.ndarray
    weights: np.ndarray


def normalised(images: np.ndarray, side: int) -> np.ndarray:
    """Area-reduced to `side`, high-passed, divided by local contrast; float32 (N, side, side), mean 0, variance 1.

    So brightness and contrast drop out, everywhere in the image, and a bright line weighs no more than faint grain.
    """
    weights = area_weights(side, images.shape[-1])
    out = np.empty((len(images), side, side), np.float32)
    for start in range(0, len(images), _CHUNK):
        part = images[start : start + _CHUNK].astype(np.float32)
        if side != images.shape[-1]:
            part = weights @ part @ weights.T
        part -= _blur(part, HIGH_PASS * side)
        # the floor keeps a flat, noiseless part from being blown up to full contrast
        floor = 0.2 * part.std((1, 2), keepdims=True) + 0.3
        part /= np.sqrt(_blur(part * part, CONTRAST * side)) + floor
        part -= part.mean((1, 2), keepdims=True)
        out[start : start + _CHUNK] = part / (part.std((1, 2), keepdims=True) + 1e-6)
    return out


def area_weights(rows: int, size: int) -> np.ndarray:
    """(rows, size): means over `rows` equal stretches of `size` pixels, pixels on a border divided between both."""
    edges = np.linspace(0, size, rows + 1)
    pixels = np.arange(size)
    shared = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.clip(shared, 0, None) * rows / size).astype(np.float32)


def level(features: np.ndarray, min_overlap: float) -> Level:
    """`features` of `normalised`; shifts down to an overlap of `min_overlap` of the area are seen, none wraps round."""
    weights = shift_weights(features.shape[-1], min_overlap)
    return Level(spectra_of(features, len(weights)), weights)


def shift_weights(side: int, min_overlap: float) -> np.ndarray:
    """float32 (P, P): 1 / sqrt(overlap) for the shifts of a map of `correlation`, 0 where the overlap is too small."""
    size = scipy.fft.next_fast_len(side + int(np.ceil(side * (1 - min_overlap))), real=True)
    share = np.clip(side - np.abs(_shifts(size)), 0, None) / side
    overlap = np.outer(share, share)
    return np.where(overlap >= min_overlap, 1 / np.sqrt(np.maximum(overlap, min_overlap)), 0).astype(np.float32)


def spectra_of(features: np.ndarray, size: int) -> np.ndarray:
    """complex64 (N, size, size // 2 + 1): zero-padded, partly whitened, each correlating with itself to 1."""
    spectra = np.empty((len(features), size, size // 2 + 1), np.complex64)
    for start in range(0, len(features), _CHUNK):
        part = scipy.fft.rfft2(features[start : start + _CHUNK], s=(size, size), axes=(1, 2))
        amplitude = np.abs(part)
        part /= (amplitude + 0.1 * amplitude.mean((1, 2), keepdims=True) + 1e-6) ** WHITENING
        # the half spectrum counts twice but for its first column: near enough for a scale
        energy = 2 * (np.abs(part) ** 2).sum((1, 2), keepdims=True) / size**2
        spectra[start : start + _CHUNK] = part / np.sqrt(energy + 1e-12)
    return spectra


def correlation(left: np.ndarray, right: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(n, P, P) of `left` (n or 1, P, P // 2 + 1) with `right` (n, ...): NCC x sqrt(overlap) at every shift.

    The root of the overlap makes all shifts equally likely to be the largest by chance.
    """
    maps: np.ndarray = scipy.fft.irfft2(left * np.conj(right), s=weights.shape, axes=(1, 2))
    maps *= weights
    return maps


def highest(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest value of each of `maps` (n, P, P) and its flat index."""
    flat = maps.reshape(len(maps), -1)
    at = flat.argmax(1)
    return flat[np.arange(len(flat)), at], at


def second(maps: np.ndarray, at: np.ndarray, side: int) -> np.ndarray:
    """The largest value away from the peak at flat index `at`; overwrites the peak's neighbourhood."""
    size = maps.shape[-1]
    reach = max(2, round(PEAK_RADIUS * side))
    near = np.arange(-reach, reach + 1)
    for one, (row, column) in zip(maps, zip(*np.divmod(at, size), strict=True), strict=True):
        one[np.ix_((row + near) % size, (column + near) % size)] = -np.inf
    return np.asarray(maps.reshape(len(maps), -1).max(1))


def to_shift(at: np.ndarray, size: int) -> np.ndarray:
    """Flat indices to (n, 2) signed shifts (dy, dx): row y of the left image is row y - dy of the right one."""
    shifts = _shifts(size)
    return np.stack([shifts[at // size], shifts[at % size]], 1)


def overlap_share(dy: int, dx: int, size: int) -> float:
    """Share of the image's area that both show at this shift."""
    return max(0, size - abs(dy)) * max(0, size - abs(dx)) / size**2


def overlapping(left: np.ndarray, right: np.ndarray, dy: int, dx: int) -> tuple[np.ndarray, np.ndarray]:
    """The two views of the common rectangle of two (S, S) images, `right` lying at (dy, dx) in `left`."""
    return left[_slices(dy, dx, left.shape[0])], right[_slices(-dy, -dx, left.shape[0])]


def ncc(left: np.ndarray, right: np.ndarray) -> float:
    """Pearson correlation of two arrays of one shape; 0 where either is constant."""
    a, b = left.ravel(), right.ravel()
    n = a.size
    mean_a, mean_b = float(a.mean()), float(b.mean())
    var_a, var_b = float(a @ a) / n - mean_a**2, float(b @ b) / n - mean_b**2
    if var_a <= 1e-9 or var_b <= 1e-9:
        return 0.0
    return (float(a @ b) / n - mean_a * mean_b) / float(np.sqrt(var_a * var_b))


def _slices(dy: int, dx: int, size: int) -> tuple[slice, slice]:
    return slice(max(dy, 0), size + min(dy, 0)), slice(max(dx, 0), size + min(dx, 0))


def _shifts(size: int) -> np.ndarray:
    return np.asarray(np.round(np.fft.fftfreq(size, 1 / size))).astype(np.int64)


def _blur(images: np.ndarray, sigma: float) -> np.ndarray:
    return np.asarray(gaussian_filter(images, (0, sigma, sigma), truncate=3.0))


def chunks(items: Sequence[int] | np.ndarray, length: int = _CACHED) -> list[np.ndarray]:
    """`items` in runs of at most `length`, so that the maps of one run stay in the cache."""
    array = np.asarray(items)
    return [array[start : start + length] for start in range(0, len(array), length)]
