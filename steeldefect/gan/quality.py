"""How good the images of a generator are, class by class, each figure beside the value that real images get.

Everything is measured on sets of equal size with one image a scene: a `reference` of validation images, and against it
`real` training images (what a perfect generator would reach: the floor) and `synthetic` ones. Sets are drawn several
times and the figures averaged, since a class has few scenes. The figure over all classes is the mean of theirs, so that
it can be held against the KID between classes, and a class that is drawn as another one counts as the error that it is.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchmetrics.image.kid import poly_mmd

from steeldefect.data.bank import diversity
from steeldefect.data.resize import resize
from steeldefect.gan.features import features_of
from steeldefect.gan.spectrum import checkerboard
from steeldefect.runs.context import Context
from steeldefect.runs.identity import derived_seed

FEWEST = 2  # images in a set: below it no KID can be estimated
CHEAP = ("kid", "kid_floor", "diversity", "diversity_drawn", "diversity_real")
METRICS = (*CHEAP, "density", "density_real", "coverage", "coverage_real", "spectrum", "spectrum_real")
# metric name -> a figure a class, None where the class has too few images
Figures = dict[str, list[float | None]]


@dataclass(frozen=True, eq=False)
class Pool:
    """Images to draw sets from: uint8 `(N, S, S)`, labels int64 `(N,)`, features float64 `(N, d)`.

    scenes int64 `(N,)`: of each scene one image comes into a set; None: every image is one of its own.
    drawn: synthetic images as the generator gave them, before flips and shifts (`bank.as_seen`); None: as `images`.
    """

    images: np.ndarray
    labels: np.ndarray
    features: Tensor
    scenes: np.ndarray | None = None
    drawn: np.ndarray | None = None

    def one_a_scene(self, label: int, rng: np.random.Generator) -> np.ndarray:
        """Indices of the class in random order, of every scene one."""
        own = rng.permutation(np.flatnonzero(self.labels == label))
        if self.scenes is None:
            return own
        return own[np.sort(np.unique(self.scenes[own], return_index=True)[1])]

    def largest_set(self, label: int) -> int:
        """How large a set of the class can be."""
        return len(self.one_a_scene(label, np.random.default_rng(0)))


def real_pool(context: Context, part: np.ndarray, device: torch.device | str = "cpu", thin: bool = False) -> Pool:
    """The real images `part` (indices) at the generator's size; with `thin` only one of each scene, to save time."""
    labels, scenes = context.images.labels, context.table.scenes if context.table else None
    if thin and scenes is not None:
        # one of each scene and class, the same in every run
        _, first = np.unique(np.stack([labels[part], scenes[part]]), axis=1, return_index=True)
        part = part[np.sort(first)]
    images = resize(context.images.images[part], context.settings["gan"]["image_size"]).numpy()
    features = features_of(images, context.settings["quality"]["feature_size"], device)
    return Pool(images, labels[part], features, None if scenes is None else scenes[part])


def kid(reference: Tensor, other: Tensor) -> float:
    """Squared MMD under the cubic kernel (Binkowski et al. 2018), unbiased, of two sets of features `(n, d)`, n >= 2.

    torchmetrics' estimator on whole sets: its `KernelInceptionDistance` adds random subsets, which so few do not need.
    """
    return float(poly_mmd(reference, other))


def density_coverage(reference: Tensor, other: Tensor, neighbours: int) -> tuple[float, float]:
    """Density and coverage (Naeem et al. 2020) of `other` `(m, d)` on the manifold of `reference` `(n, d)`.

    Each reference image has a ball that reaches to its k-th neighbour, k at most n - 1. Density: in how many balls
    an image lies, over k; about 1 for equal distributions. Coverage: share of the balls that hold an image.
    """
    k = min(neighbours, len(reference) - 1)
    exact = "donot_use_mm_for_euclid_dist"
    # the nearest of all is the image itself
    radii = torch.cdist(reference, reference, compute_mode=exact).kthvalue(k + 1, dim=1).values
    inside = torch.cdist(reference, other, compute_mode=exact) < radii[:, None]
    return float(inside.sum() / (k * len(other))), float(inside.any(1).double().mean())


def figures(
    reference: Pool, real: Pool, synthetic: Pool, classes: int, draws: int, neighbours: int, whole: bool = True
) -> Figures:
    """The figures of each class over `draws` draws of sets; with `whole`=False only KID, diversity and their real values.

    A class with fewer than `FEWEST` scenes (or synthetic images) has None throughout.
    """
    rows = [_of_class(reference, real, synthetic, c, draws, neighbours, whole) for c in range(classes)]
    found: Figures = {name: [row.get(name) for row in rows] for name in (METRICS if whole else CHEAP)}
    if whole:
        found["kid_between_classes"] = _between_classes(reference, real, classes, draws)
    return found


def over_classes(values: Sequence[float | None]) -> float | None:
    """The mean over the classes that have a figure."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def diversity_shares(found: Mapping[str, Sequence[float | None]]) -> list[float | None]:
    """A class's spread of gray levels as a share of that of real images (`figures`).

    Of images as they are drawn: flips and shifts give even one image over and over a spread.
    """
    pairs = zip(found["diversity_drawn"], found["diversity_real"], strict=True)
    return [None if one is None or other is None else one / max(other, 1e-9) for one, other in pairs]


def _of_class(
    reference: Pool, real: Pool, synthetic: Pool, label: int, draws: int, neighbours: int, whole: bool
) -> dict[str, float]:
    rows = []
    for expected, seen, made in _sets((reference, real, synthetic), label, draws):
        target, theirs, ours = reference.features[expected], real.features[seen], synthetic.features[made]
        row = {"kid": kid(target, ours), "kid_floor": kid(target, theirs)}
        drawn = synthetic.images if synthetic.drawn is None else synthetic.drawn
        row |= {"diversity": _spread(synthetic.images[made]), "diversity_drawn": _spread(drawn[made])}
        row["diversity_real"] = _spread(reference.images[expected])
        if whole:
            row["density"], row["coverage"] = density_coverage(target, ours, neighbours)
            row["density_real"], row["coverage_real"] = density_coverage(target, theirs, neighbours)
            row["spectrum"] = checkerboard(synthetic.images[made])
            row["spectrum_real"] = checkerboard(reference.images[expected])
        rows.append(row)
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]} if rows else {}


def _sets(pools: Sequence[Pool], label: int, draws: int) -> Iterator[list[np.ndarray]]:
    """Indices into each pool, equally many; nothing where one has fewer than `FEWEST`."""
    for draw in range(draws):
        rng = np.random.default_rng(derived_seed("quality", label, draw))
        found = [pool.one_a_scene(label, rng) for pool in pools]
        n = min(len(indices) for indices in found)
        if n >= FEWEST:
            yield [indices[:n] for indices in found]


def _between_classes(reference: Pool, real: Pool, classes: int, draws: int) -> list[float | None]:
    """Mean KID of a class's reference to the real images of every other class, in sets of equal size."""
    sums: list[list[float]] = [[] for _ in range(classes)]
    for draw in range(draws):
        rng = np.random.default_rng(derived_seed("quality", "between", draw))
        expected = [reference.features[reference.one_a_scene(c, rng)] for c in range(classes)]
        seen = [real.features[real.one_a_scene(c, rng)] for c in range(classes)]
        for c in range(classes):
            for other in range(classes):
                n = min(len(expected[c]), len(seen[other]))
                if other != c and n >= FEWEST:
                    sums[c].append(kid(expected[c][:n], seen[other][:n]))
    return [float(np.mean(values)) if values else None for values in sums]


def _spread(images: np.ndarray) -> float:
    return diversity(images, np.zeros(len(images), np.int64), 1)[0]
