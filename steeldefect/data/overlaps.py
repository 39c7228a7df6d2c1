"""Finds the pairs of images that show the same surface: copies, and crops that overlap, whatever their brightness.

Three stages. (1) Candidates: correlation at 64 px of every pair (`candidates`). (2) Each candidate again at 128 px: the
best shift, and its *distinctness*, by how much the correlation there exceeds that at the best other shift. (3) At full
size, on the overlapping pixels alone: the `score` (NCC after high-pass and local contrast normalisation) at the best of
the neighbouring shifts, and the *agreement* of its parts.

A pair counts if distinctness exceeds a threshold, the parts agree, and the score is no mere trace. The threshold comes
from the data themselves: the same search with one image of each pair mirrored, which keeps texture, lighting and
compression but cannot overlap; the upper tail of that null is continued as an exponential to `expected_false` false
pairs in the whole pass.

Why periodic textures do not chain unrelated images: two gratings of one period, two sets of parallel scratches, agree
at many shifts nearly as well as at the best, so nothing is distinct about it, however high the score. The spectra are
partly whitened (|F|^-0.7), which takes the strength of a few frequencies away and leaves what is unlike anything else.
What sits at one place (dirt on the lens, one bright scratch) fails the agreement: most parts of the overlap must
correlate. The price: overlaps that show nothing but a grating are not reported; they could be anywhere along it.

Cost for n images: n (n - 1) / 2 correlations of 125 x 125 at 50 microseconds each in the exhaustive search; n^2 / 16 and
some percent in the bundled one, which correlates with sums of eight images first and opens those that stand out, about
20 microseconds a pair. To that 8 ms an image and 1.5 ms a candidate. Measured on NEU, processor time: 450 images 8 s,
1,800 images 53 s (31 s on two cores, 0.9 GB); bundled 35 s, finding 99 % of the pairs from 20 % overlap up. Memory: 63 kB
an image, twice while the null is drawn, and 1 GB.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from steeldefect.data.candidates import PairSpace, Searcher, across, within
from steeldefect.data.correlation import level, normalised
from steeldefect.data.inspection import PLAIN, Finding, Inspector, View, seen_as
from steeldefect.runs.errors import nearest, require

COARSE, FINE = 64, 128
# raised when a change alters which pairs are found
OVERLAP_RECIPE = 1
# more pairs than this in one pass, and sums of images are tried first
EXHAUSTIVE_PAIRS = 2_000_000
BUNDLE = 8
# share of the null's pairs that go on to stage 2; at least so many, or their tail cannot be told
_CANDIDATES, _FEWEST = 0.02, 100
_BUNDLES = 0.05
# most parts of the overlap must correlate above zero
AGREEMENT = 0.75
# below it a faint grain repeats under different defects (rolls print theirs at every turn): not the same surface
SCORE = 0.35
# never below _FLOOR; _UNKNOWN where the null is too small to say: above unrelated pairs of any texture seen so far
_FLOOR, _UNKNOWN = 0.03, 0.12

_MIRRORED: tuple[View, ...] = ((0, True), (2, True))
TRANSFORMS: dict[str, tuple[View, ...]] = {
    "none": (PLAIN,),
    "flips": (PLAIN, (0, True), (2, True), (2, False)),
    "all": tuple((turns, flip) for flip in (False, True) for turns in range(4)),
}


@dataclass(frozen=True)
class Settings:
    """The config block `audit`.

    min_overlap: smallest share of the area that is looked for. transforms: none | flips | all (with quarter turns).
    across_classes: also pairs of different classes. bundle: 0 chooses, 1 is exhaustive, else images a sum.
    """

    min_overlap: float = 0.1
    transforms: str = "none"
    across_classes: bool = True
    bundle: int = 0
    null_pairs: int = 20_000
    expected_false: float = 0.05
    seed: int = 0

    @classmethod
    def of(cls, block: Mapping[str, Any]) -> "Settings":
        """UserError names the key `audit.<key>` that is unknown or out of range."""
        known = [field.name for field in fields(cls)]
        for key in block:
            require(key in known, f"audit.{key}: unknown; {nearest(key, known)}")
        made = cls(**block)
        require(0.05 <= made.min_overlap < 1, f"audit.min_overlap={made.min_overlap}: must lie in [0.05, 1)")
        require(
            made.transforms in TRANSFORMS,
            f"audit.transforms={made.transforms}: {nearest(made.transforms, TRANSFORMS)}",
        )
        require(made.bundle >= 0, f"audit.bundle={made.bundle}: must be 0 (chosen), 1 (exhaustive) or more")
        require(made.null_pairs >= 100, f"audit.null_pairs={made.null_pairs}: must be at least 100")
        require(made.expected_false > 0, f"audit.expected_false={made.expected_false}: must be above 0")
        return made


@dataclass(frozen=True)
class Pass:
    """One pass: a class, or all pairs across classes.

    null: distinctness of the candidates among `null_pairs` mirrored pairs; mirrored: how many of these stand out so far
    that they must be mirrored copies. seen: distinctness of the candidates among the `pairs` real ones.
    """

    name: str
    pairs: int
    null_pairs: int
    null: np.ndarray
    mirrored: int
    seen: np.ndarray
    threshold: float


@dataclass(frozen=True)
class Overlaps:
    """findings: one a pair of images, a < b, sorted; passes: the classes, then `across classes`."""

    findings: tuple[Finding, ...]
    passes: tuple[Pass, ...]

    @property
    def pairs(self) -> np.ndarray:
        """int64 (P, 2), a < b."""
        return np.array([(one.a, one.b) for one in self.findings], np.int64).reshape(-1, 2)


def find_overlaps(
    images: np.ndarray,
    labels: np.ndarray,
    settings: Settings | None = None,
    classes: Sequence[str] | None = None,
    threads: int = 2,
) -> Overlaps:
    """images uint8 (N, S, S), labels (N,); `classes` name the passes. The same result whatever `threads`."""
    settings = settings or Settings()
    require(images.ndim == 3 and images.shape[1] == images.shape[2], f"images {images.shape}: must be (N, S, S)")
    with ThreadPoolExecutor(threads) as pool:
        search = _Search(images, settings, pool)
        spaces = _spaces(labels, classes, settings)
        nulls = search.nulls(spaces)
        found: dict[tuple[int, int], Finding] = {}
        passes = []
        for space, null in zip(spaces, nulls, strict=True):
            made, findings = search.search(space, null, nulls)
            passes.append(made)
            for one in findings:
                kept = found.get((one.a, one.b))
                found[one.a, one.b] = one if kept is None or one.distinctness > kept.distinctness else kept
    return Overlaps(tuple(found[key] for key in sorted(found)), tuple(passes))


def scenes_of(count: int, pairs: np.ndarray) -> np.ndarray:
    """int64 (count,): images that are linked through `pairs` (P, 2) share a number, dense, by first appearance."""
    graph = coo_matrix((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return canonical_scenes(connected_components(graph, directed=False)[1])


def canonical_scenes(scenes: np.ndarray) -> np.ndarray:
    """The same grouping, numbered 0, 1, ... by first appearance; int64."""
    _, first, inverse = np.unique(scenes, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return np.asarray(rank[inverse])


def null_threshold(null: np.ndarray, candidates: float, expected_false: float) -> tuple[float, int]:
    """The distinctness that `expected_false` of `candidates` unrelated candidates exceed, and how many of `null` do not
    belong to it: mirrored copies in the data, which would hide everything if they counted.

    The tail above the upper quartile is taken as exponential, as maxima of correlation maps have it.
    """
    if len(null) < _FEWEST // 2:
        return _UNKNOWN, 0
    middle, quarter = np.quantile(null, (0.5, 0.75))
    kept = null[null <= middle + 15 * (quarter - middle) / np.log(2)]
    start = np.quantile(kept, 0.75)
    scale = float(np.mean(kept[kept > start] - start)) if np.any(kept > start) else 0.0
    threshold = float(start + scale * np.log(max(1.0, 0.25 * candidates / expected_false)))
    return max(_FLOOR, threshold), len(null) - len(kept)


@dataclass(frozen=True)
class _Null:
    """Mirrored pairs of one pass: how many were drawn, their peaks, and the distinctness of those above `floor`."""

    pairs: int
    floor: float
    bundle_floor: float
    distinctness: np.ndarray


class _Search:
    def __init__(self, images: np.ndarray, settings: Settings, pool: ThreadPoolExecutor) -> None:
        self.settings, self.pool = settings, pool
        self.features = normalised(images, min(COARSE, images.shape[1]))
        # a little further out than asked for, so that a peak at the limit is seen whole
        self.reach = 0.9 * settings.min_overlap
        self.left = level(self.features, self.reach)
        self.inspector = Inspector(images, min(FINE, images.shape[1]), self.reach)

    def nulls(self, spaces: Sequence[PairSpace]) -> list[_Null]:
        """Of each pass, under both mirrorings: left to right and upside down."""
        samples = self.settings.null_pairs // len(_MIRRORED)
        drawn = []
        for view in _MIRRORED:
            # one mirrored set in memory at a time
            searcher = self._searcher(view)
            drawn.append([searcher.null(space, samples, self.settings.seed) for space in spaces])
        return [self._null(draws) for draws in zip(*drawn, strict=True)]

    def _null(self, drawn: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> _Null:
        peaks = np.concatenate([values for _, values, _ in drawn])
        if not len(peaks):
            return _Null(0, 0.0, 0.0, np.empty(0))
        share = min(1.0, max(_CANDIDATES, _FEWEST / len(peaks)))
        floor = float(np.quantile(peaks, 1 - share))
        bundle_floor = float(np.quantile(np.concatenate([values for _, _, values in drawn]), 1 - _BUNDLES))
        distinct = [
            self.inspector.distinctness(pairs[values > floor], view, self.pool)[0]
            for view, (pairs, values, _) in zip(_MIRRORED, drawn, strict=True)
        ]
        return _Null(len(peaks), floor, bundle_floor, np.concatenate(distinct))

    def search(self, space: PairSpace, null: _Null, nulls: Sequence[_Null]) -> tuple[Pass, list[Finding]]:
        """One pass under every transform; a null too small to have a tail borrows those of the other passes."""
        views = TRANSFORMS[self.settings.transforms]
        pairs = space.count() * len(views)
        tail = null.distinctness
        if len(tail) < _FEWEST:
            tail = np.concatenate([one.distinctness for one in nulls])
        candidates = pairs * len(null.distinctness) / max(1, null.pairs)
        threshold, mirrored = null_threshold(tail, candidates, self.settings.expected_false)
        seen, findings = [np.empty(0)], []
        for view in views:
            drawn, _ = self._searcher(view).search(space, null.bundle_floor, null.floor)
            distinct, shifts = self.inspector.distinctness(drawn, view, self.pool)
            seen.append(distinct)
            far = distinct > threshold
            found = self.inspector.inspect(drawn[far], shifts[far], distinct[far], view, self.pool)
            findings += [one for one in found if self._counts(one)]
        made = Pass(space.name, pairs, null.pairs, null.distinctness, mirrored, np.concatenate(seen), threshold)
        return made, findings

    def _counts(self, one: Finding) -> bool:
        return one.overlap >= self.settings.min_overlap and one.agreement >= AGREEMENT and one.score >= SCORE

    def _searcher(self, view: View) -> Searcher:
        right = self.left if view == PLAIN else level(seen_as(self.features, view), self.reach)
        return Searcher(self.left, right, self.pool)


def _spaces(labels: np.ndarray, classes: Sequence[str] | None, settings: Settings) -> list[PairSpace]:
    present = np.unique(labels)
    members = [np.flatnonzero(labels == label) for label in present]
    names = [classes[label] if classes else str(label) for label in present]
    inside = sum(len(part) * (len(part) - 1) // 2 for part in members)
    outside = len(labels) * (len(labels) - 1) // 2 - inside

    def bundle(pairs: int) -> int:
        return settings.bundle or (1 if pairs <= EXHAUSTIVE_PAIRS else BUNDLE)

    spaces = [within(name, part, bundle(inside)) for name, part in zip(names, members, strict=True)]
    if settings.across_classes and outside:
        spaces.append(across(labels, settings.bundle or BUNDLE))
    return spaces
