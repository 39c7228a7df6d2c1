"""Flips and shifts that a discriminator saw its images through, put into the images that are drawn.

D judges an image through random flips and shifts (`gan.augment`), so it cannot tell a generator that always draws the
bright side left from one that draws it on either side: of each image only the set of its flipped and shifted versions
is learnt. A generator left alone picks one of the set and repeats it, a class at a time, and a classifier that is
trained on the bank learns the place in the picture in place of the defect. Drawn through the same flips and
shifts, an image is any one of its set.
"""

from collections.abc import Sequence

import numpy as np

from steeldefect.runs.identity import derived_seed
from steeldefect.runs.settings import PLACING

MAX_SHIFT = 1 / 8  # of the side


def placing(policies: Sequence[str]) -> list[str]:
    """Those of `gan.discriminator.augment` that an image can be drawn through."""
    return [policy for policy in PLACING if policy in policies]


def placed(images: np.ndarray, policies: Sequence[str], seed: int, first: int) -> np.ndarray:
    """uint8 `(N, S, S)`: every image with flips and a shift of its own, as `policies` has them.

    As in `gan.augment`: left to right and top to bottom with probability 1/2 each, by whole pixels up to an eighth of
    the side. What a shift uncovers is the image mirrored at its edge. `first`: the latent number of the first image,
    which with `seed` fixes the draw; images must come in the same parts to be the same.
    """
    rng = np.random.Generator(np.random.Philox(key=[derived_seed("bank", "placed", seed), first]))
    n, side = images.shape[0], images.shape[-1]
    reach, places = round(side * MAX_SHIFT), np.arange(side)
    index = []
    for flipped, shift in zip(rng.random((2, n)) < 0.5, rng.integers(-reach, reach + 1, (2, n)), strict=True):
        source = places - (shift[:, None] if "translation" in policies else np.zeros((n, 1), int))
        source = np.abs(source)
        source = np.where(source < side, source, 2 * (side - 1) - source)
        if "flip" in policies:
            source = np.where(flipped[:, None], side - 1 - source, source)
        index.append(source)
    rows, columns = index
    return images[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
