"""Checkerboards of a generator: power at the frequencies of its strides beside that in their neighbourhood.

A stack of stride-2 layers repeats every 2, 4, 8 ... pixels whatever it draws (Odena et al. 2016); steel does not.
"""

import numpy as np

PERIODS = (2, 4, 8)  # pixels; of the last, the last but one ... layer
RING = 3  # bins around a frequency, but for its nearest: a Hann window spreads a wave over those
LOBE = 1


def stride_frequencies(size: int) -> dict[int, list[tuple[int, int]]]:
    """Period -> bins (row, column) of the waves that repeat with it and with no shorter one; the mean gray left out.

    Only periods whose multiples lie far enough apart for a neighbourhood of their own; 2 always.
    """
    found: dict[int, list[tuple[int, int]]] = {}
    known = {(0, 0)}
    for period in PERIODS:
        step = size // period
        if period == PERIODS[0] or step > 2 * RING + LOBE:
            bins = {(row, column) for row in range(0, size, step) for column in range(0, size, step)}
            found[period] = sorted(bins - known)
            known |= bins
    return found


def checkerboard(images: np.ndarray) -> float:
    """The power at a stride's frequencies over the median around each, averaged over them; the largest of the periods.

    uint8 `(N, S, S)`, N >= 1; mean power over the images after a Hann window. About 1 without a checkerboard.
    """
    size = images.shape[-1]
    window = np.hanning(size + 1)[:-1]
    power = np.zeros((size, size))
    for image in images:
        centred = image - image.mean(dtype=np.float64)
        power += np.abs(np.fft.fft2(centred * np.outer(window, window))) ** 2
    offsets = np.arange(-RING, RING + 1)
    rows, columns = np.meshgrid(offsets, offsets, indexing="ij")
    ring = np.maximum(abs(rows), abs(columns)) > LOBE

    def ratio(row: int, column: int) -> float:
        near = power[(row + rows[ring]) % size, (column + columns[ring]) % size]
        return float(power[row, column] / max(float(np.median(near)), np.finfo(float).tiny))

    return max(float(np.mean([ratio(*at) for at in bins])) for bins in stride_frequencies(size).values())
