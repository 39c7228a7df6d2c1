"""Train, validation and test indices: by image (the paper's) or by scene, and the few images of a low-data run."""

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

from steeldefect.runs.errors import UserError, nearest, require
from steeldefect.runs.identity import derived_seed

log = logging.getLogger(__name__)

SPLITS = ("random", "grouped", "grouped_cv", "given")
# how far above its target a class's test part may end, as a share of the class
SLACK = 0.01
# how far off its target a class's test part may end without a warning
TOLERANCE = 0.02
# images of a class that split=random can still have on all sides
FEWEST = 5


@dataclass(frozen=True, eq=False)
class Split:
    """Sorted int64 indices; the three are disjoint and cover all N images."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def make_split(
    split: Mapping[str, Any],
    seed: int,
    labels: np.ndarray,
    scenes: np.ndarray | None,
    classes: Sequence[str],
    parts: Sequence[str] | None = None,
) -> Split:
    """The config group `split` applied to labels (N,) and scenes (N,), int64; `seed` is the partition's.

    parts: of each image train, validation or test, where split.name=given. The test part depends on `seed` alone, never
    on the validation fraction. UserError where a key is out of range, scenes are needed and absent, or a class is too
    small to be on all sides.
    """
    name = split["name"]
    require(name in SPLITS, lambda: f"split.name={name}: {nearest(str(name), SPLITS)}")
    validation_fraction = _fraction(split, "validation_fraction", zero=True)
    indices = np.arange(len(labels), dtype=np.int64)
    if name == "given":
        assert parts is not None
        given = np.array(parts)
        _require_each(given, labels, classes)
        test = indices[given == "test"]
        if (given == "validation").any():
            return Split(indices[given == "train"], indices[given == "validation"], test)
    elif name == "random":
        test = _stratified(indices, labels, classes, _fraction(split, "test_fraction"), seed, "test")
    else:
        scenes = _needed(scenes, name, len(labels))
        if name == "grouped":
            fraction = _fraction(split, "test_fraction")
            test = indices[_take(labels, scenes, classes, fraction, seed, "test")]
        else:
            folds, fold = _fold_keys(split)
            test = indices[_folds(labels, scenes, classes, folds, seed) == fold]
            # each fold draws its own validation part
            seed = derived_seed(seed, "fold", fold)
    rest = np.setdiff1d(indices, test)
    validation = np.zeros(0, np.int64)
    if validation_fraction:
        seed = derived_seed(seed, "validation")
        if name == "random" or scenes is None:
            validation = _stratified(rest, labels, classes, validation_fraction, seed, "validation")
        else:
            taken = _take(labels[rest], scenes[rest], classes, validation_fraction, seed, "validation")
            validation = rest[taken]
    return Split(np.setdiff1d(rest, validation), np.sort(validation), np.sort(test))


def _require_each(given: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> None:
    for part in ("train", "test"):
        absent = [name for label, name in enumerate(classes) if not (given[labels == label] == part).any()]
        require(not absent, f"split=given: part {part} holds no image of {', '.join(absent)}")


def limit_real(
    train: np.ndarray,
    labels: np.ndarray,
    scenes: np.ndarray | None,
    classes: Sequence[str],
    per_class: int | None,
    seed: int,
    skip: int = 0,
) -> np.ndarray:
    """`per_class` images a class out of the indices `train`, of different scenes while they last; sorted; None: all.

    A class's images are ordered once from `seed` (an image of each scene, then a second of each, ...), so the choice
    for 5 lies within the one for 10, and so on. Without scenes every image is one of its own. With `skip`, the images
    that follow the first `skip` of that order, as many as there are.
    """
    train = np.unique(train)
    if per_class is None:
        return train
    whole = isinstance(per_class, int) and not isinstance(per_class, bool)
    require(whole and per_class > 0, f"real_per_class={per_class}: must be a positive whole number, or null for all")
    chosen = []
    for label in np.unique(labels[train]).tolist():
        members = train[labels[train] == label]
        require(
            len(members) >= per_class or skip > 0,
            f"real_per_class={per_class}: class {classes[label]!r} has {len(members)} training images; ask for fewer, or null",
        )
        rng = np.random.default_rng(derived_seed(seed, "limit_real", label))
        groups = np.arange(len(members)) if scenes is None else scenes[members]
        chosen.append(members[_in_turns(groups, rng)][skip : skip + per_class])
    return np.sort(np.concatenate(chosen))


def _in_turns(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random order of the positions in `groups` (n,): one of each group, then a second of each that has one, ..."""
    unit, table = _units(np.zeros(len(groups), np.int64), groups, 1)
    rank = rng.permutation(len(table))[unit]
    shuffled = rng.permutation(len(groups))
    turn, seen = np.zeros(len(groups), np.int64), np.zeros(len(table), np.int64)
    for k in shuffled:
        turn[k] = seen[unit[k]]
        seen[unit[k]] += 1
    return np.lexsort((rank, turn))


def scenes_per_class(
    indices: np.ndarray, labels: np.ndarray, scenes: np.ndarray, classes: Sequence[str]
) -> dict[str, int]:
    """How many different scenes each class has among the images `indices`."""
    found = labels[indices], scenes[indices]
    return {name: len(np.unique(found[1][found[0] == label])) for label, name in enumerate(classes)}


def _fraction(split: Mapping[str, Any], key: str, zero: bool = False) -> float:
    value = split[key]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    inside = number and (0 < value < 1 or (zero and value == 0))
    require(inside, f"split.{key}={value}: must lie in {'[' if zero else '('}0, 1)")
    return float(value)


def _fold_keys(split: Mapping[str, Any]) -> tuple[int, int]:
    folds, fold = split["folds"], split["fold"]
    for key, value, low in (("folds", folds, 2), ("fold", fold, 0)):
        whole = isinstance(value, int) and not isinstance(value, bool)
        require(
            whole and value >= low,
            f"split.{key}={'null' if value is None else value}: must be a whole number, {low} or more",
        )
    require(fold < folds, f"split.fold={fold}: must be less than split.folds={folds}")
    return folds, fold


def _needed(scenes: np.ndarray | None, name: str, count: int) -> np.ndarray:
    if scenes is None:
        raise UserError(
            f"split={name} needs to know which images show the same scene: run `python experiments/audit.py "
            "dataset=... dataset.root=...` once with the settings of this data set, or give dataset.scenes=<csv> with "
            "columns image,scene; split=random works without, but leaks where images overlap"
        )
    if len(scenes) != count:
        raise ValueError(f"{len(scenes)} scenes for {count} images")
    return scenes


def _stratified(
    indices: np.ndarray, labels: np.ndarray, classes: Sequence[str], fraction: float, seed: int, part: str
) -> np.ndarray:
    """round(fraction x n) of `indices`, in every class its share."""
    wanted = round(fraction * len(indices))
    counts = np.bincount(labels[indices], minlength=len(classes))
    smallest = int(counts.argmin())
    needed = max(2, int(np.ceil(1 / min(fraction, 1 - fraction))))
    left = "" if part == "test" else " left by the test part"
    too_small = (
        f"split.{part}_fraction={fraction:g}: class {classes[smallest]!r} has {counts[smallest]} images{left}, and "
        f"needs {needed} to be on both sides; add images or change the fraction"
    )
    require(counts[smallest] >= 2 and len(classes) <= wanted <= len(indices) - len(classes), too_small)
    _, taken = train_test_split(
        indices, test_size=wanted, stratify=labels[indices], random_state=derived_seed(seed, part)
    )
    got = np.bincount(labels[taken], minlength=len(classes))
    require(bool(((got > 0) & (got < counts)).all()), too_small)
    return np.asarray(taken, np.int64)


def _units(labels: np.ndarray, scenes: np.ndarray, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Scene of each image, numbered by first appearance, and images per scene and class (U, C)."""
    _, first, inverse = np.unique(scenes, return_index=True, return_inverse=True)
    unit = np.argsort(np.argsort(first))[inverse]
    table = np.zeros((len(first), n_classes), np.int64)
    np.add.at(table, (unit, labels), 1)
    return unit, table


def _orders(table: np.ndarray, seed: int, classes: Sequence[str]) -> list[np.ndarray]:
    """Each class's scenes in a random order of its own, so that one class's data do not move another's."""
    seeds = [derived_seed(seed, "scenes", name) for name in classes]
    return [np.random.default_rng(s).permutation(np.flatnonzero(table[:, c])) for c, s in enumerate(seeds)]


def _take(
    labels: np.ndarray, scenes: np.ndarray, classes: Sequence[str], fraction: float, seed: int, part: str
) -> np.ndarray:
    """Mask (n,) of the images whose scenes go into `part`.

    A class's scenes in random order, each taken while it still fits the target + 1 point, until the target is reached.
    A scene that spans classes is one unit and must fit in all of them.
    """
    unit, table = _units(labels, scenes, len(classes))
    total = table.sum(0)
    # the last term: something of every class must stay
    limit = np.minimum((fraction + SLACK) * total + 1e-9, total - 1)
    have, taken = np.zeros_like(total), np.zeros(len(table), bool)
    for c, order in enumerate(_orders(table, seed, classes)):
        for u in order:
            if have[c] >= fraction * total[c]:
                break
            if not taken[u] and _fits(have, table[u], limit):
                taken[u] = True
                have += table[u]
        if have[c] == 0:
            u = _smallest(c, order, have, table, total, classes, fraction, part)
            taken[u] = True
            have += table[u]
        _warn(classes[c], table[:, c], have[c], fraction, part)
    return taken[unit]


def _fits(have: np.ndarray, scene: np.ndarray, limit: np.ndarray) -> bool:
    return bool((have + scene <= limit)[scene > 0].all())


def _smallest(
    c: int,
    order: np.ndarray,
    have: np.ndarray,
    table: np.ndarray,
    total: np.ndarray,
    classes: Sequence[str],
    fraction: float,
    part: str,
) -> int:
    """The class's smallest scene, where none fits the part: too large a part is a warning, an empty one is useless."""
    possible = [u for u in order if _fits(have, table[u], total - 1)]
    require(
        bool(possible),
        f"split.{part}_fraction={fraction:g}: class {classes[c]!r} cannot be divided by scene: its {total[c]} images "
        f"are of {len(order)} scene{'s' if len(order) != 1 else ''}; add scenes, "
        + (_instead(total[c]) if part == "test" else "or set split.validation_fraction=0"),
    )
    return int(min(possible, key=lambda u: table[u].sum()))


def _instead(images: int) -> str:
    """split=random needs a class of some size, too."""
    return "take split=random" if images >= FEWEST else "merge the class with another, or leave it out"


@functools.cache
def _warn_once(message: str) -> None:
    log.warning(message)


def _warn(name: str, sizes: np.ndarray, have: int, fraction: float, part: str) -> None:
    room = (fraction + SLACK) * sizes.sum()
    large = sizes[sizes > room]
    # a validation part is small: that some scenes do not fit in it is the rule
    if part == "test" and len(large) and have <= room:
        _warn_once(
            f"class {name}: {len(large)} of {np.count_nonzero(sizes)} scenes are larger than the test part "
            f"({large.max()} images against {int(room)}) and stay in train"
        )
    if abs(have - fraction * sizes.sum()) > max(1, TOLERANCE * sizes.sum()):
        _warn_once(
            f"class {name}: scenes do not add up to split.{part}_fraction={fraction:g}, its part is "
            f"{have / sizes.sum():.3f} ({have} of {sizes.sum()} images)"
        )


def _folds(labels: np.ndarray, scenes: np.ndarray, classes: Sequence[str], folds: int, seed: int) -> np.ndarray:
    """Fold (n,) of each image: a class's scenes in random order, each to the emptiest fold in its classes."""
    unit, table = _units(labels, scenes, len(classes))
    have = np.zeros((folds, len(classes)), np.int64)
    fold_of = np.full(len(table), -1)
    for c, order in enumerate(_orders(table, seed, classes)):
        # scenes larger than half a fold go first: met late, one makes a fold of nearly two (NEU: 169 images of 300)
        small = 2 * folds * table[order, c] <= table[:, c].sum()
        for u in order[np.argsort(small, kind="stable")]:
            if fold_of[u] < 0:
                load = have[:, table[u] > 0].sum(1)
                # ties go to the fold with the fewest images in all
                fold_of[u] = np.lexsort((have.sum(1), load))[0]
                have[fold_of[u]] += table[u]
    for c, name in enumerate(classes):
        n_scenes = np.count_nonzero(table[:, c])
        require(
            bool(have[:, c].all()),
            f"split.folds={folds}: class {name!r} cannot be in every fold: its {table[:, c].sum()} images are of "
            f"{n_scenes} scene{'s' if n_scenes != 1 else ''}; add scenes, use fewer folds or {_instead(table[:, c].sum())}",
        )
    return fold_of[unit]
