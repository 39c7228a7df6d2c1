"""From a config to a context: settings checked, data set loaded, scenes found, split made, and what a user should know said."""

import csv
import functools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from steeldefect.data.decode import FITS
from steeldefect.data.scenes import SceneTable, overlapping_share, scenes_for
from steeldefect.data.sources import ImageSet, load_dataset
from steeldefect.data.splits import make_split, scenes_per_class
from steeldefect.data.tables import given_parts
from steeldefect.runs import identities, ranks
from steeldefect.runs.context import Context
from steeldefect.runs.identity import digest
from steeldefect.runs.mixes import as_run, mix_name
from steeldefect.runs.settings import plain
from steeldefect.runs.store import Store

log = logging.getLogger(__name__)
FEW = 5  # test images of a class


def prepare(cfg: DictConfig) -> Context:
    """Check the config, load the data set, find its scenes and split it; the split's folder is written if missing."""
    settings = _as_run(plain(cfg))
    ranks.start(settings["trainer"])
    root = Path(settings["artifacts"])
    images, table = _data(_frozen(settings["dataset"]), root)
    scenes = table.scenes if table else None
    parts = _given_parts(settings["split"], images)
    split = make_split(settings["split"], settings["partition_seed"], images.labels, scenes, images.classes, parts)
    identity = identities.split_identity(settings, images.content, table.id if table else None, parts)
    context = Context(settings, Store(root), images, table, split, digest(identity))
    _write_split(context, identity)
    _warn_of_leaks(context)
    _warn_of_few(context)
    _tell_low_data(context)
    return context


def _given_parts(split: Mapping[str, Any], images: ImageSet) -> list[str] | None:
    """Of each image its part, under split=given."""
    if split["name"] != "given":
        return None
    path = None if split["parts"] is None else Path(str(split["parts"])).expanduser()
    return given_parts(path, images.parts, images.names)


def _as_run(settings: dict[str, Any]) -> dict[str, Any]:
    mix, schedule = settings["mix"], settings["schedule"]["name"]
    run = as_run(mix, schedule)
    if run != mix:
        _warn_once(f"mix={mix_name(mix)} under schedule={schedule} is {mix_name(run)}: the same images and updates")
    return settings | {"mix": run}


def _frozen(part: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted((key, tuple(value) if isinstance(value, list) else value) for key, value in part.items()))


@functools.lru_cache(maxsize=2)
def _data(dataset: tuple[tuple[str, Any], ...], root: Path) -> tuple[ImageSet, SceneTable | None]:
    """Kept between the cells of a sweep that run in one process."""
    given, cache = dict(dataset), root / "cache"
    images = load_dataset(given, cache)
    # an image's own reflections say nothing of another, and what is cut off may show the same surface
    whole = images if given.get("fit", FITS[0]) == FITS[0] else load_dataset(given, cache, whole=True)
    return images, scenes_for(whole, given, root)


def _write_split(context: Context, identity: dict[str, Any]) -> None:
    images, split, table = context.images, context.split, context.table
    with context.store.write("splits", identity, wait=True) as work:
        if work is None:
            return
        parts = {"train": split.train, "validation": split.validation, "test": split.test}
        rows = [
            (images.names[i], images.classes[images.labels[i]], part, "" if table is None else int(table.scenes[i]))
            for part, indices in parts.items()
            for i in indices
        ]
        with (work.folder / "split.csv").open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([("image", "class", "part", "scene"), *rows])
        for part, indices in parts.items():
            counts = np.bincount(images.labels[indices], minlength=len(images.classes)).tolist()
            log.info("%s: %s", part, _listed(dict(zip(images.classes, counts, strict=True))))
        work.summary |= {part: len(indices) for part, indices in parts.items()}
        # of the whole training part: the split is that of all mixes and of every number of real images
        work.summary["test_overlapping_share"] = overlapping_share(table, split.train, split.test) if table else None
        if table is not None:
            work.summary["test_scenes"] = scenes_per_class(split.test, images.labels, table.scenes, images.classes)
            work.summary["scenes_source"] = table.source


@functools.cache
def _warn_once(message: str) -> None:
    log.warning(message)


@functools.cache
def _say_once(message: str) -> None:
    log.info(message)


def _warn_of_leaks(context: Context) -> None:
    share, name = context.overlapping_share, context.settings["split"]["name"]
    if name not in ("random", "given"):
        return
    if share is None:
        _warn_once(
            f"split={name}: the scenes are not known, so nobody can say whether test images overlap training ones; make "
            "audit finds them"
        )
    elif share > 0:
        _warn_once(
            f"split={name}: {share:.0%} of the test images show the surface of a training image; see split=grouped"
        )


def _warn_of_few(context: Context) -> None:
    """A class that a handful of images stand for has no figure worth the name, whatever its interval."""
    counts = np.bincount(context.images.labels[context.split.test], minlength=len(context.images.classes))
    few = [f"{name} {n}" for name, n in zip(context.images.classes, counts.tolist(), strict=True) if n < FEW]
    if few:
        split = context.settings["split"]
        instead = "split=grouped_cv tests every image in turn"
        if split["name"] == "grouped_cv":
            instead = f"replicates 0 to {split['folds'] - 1} together test every image once"
        _warn_once(f"classes tested on fewer than {FEW} images: {', '.join(few)}; {instead}")


def _tell_low_data(context: Context) -> None:
    k = context.settings["real_per_class"]
    if k is None:
        return
    scenes = "unknown" if context.real_scenes is None else _listed(context.real_scenes)
    said = f"real_per_class={k}, replicate {context.settings['replicate']}: images of different scenes: {scenes}"
    if context.settings["mix"]["kind"] == "real_extra":
        counts = dict(zip(context.images.classes, context.added_counts, strict=True))
        said += f"; {context.mix} adds {_listed(counts)} real images"
    _say_once(said)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
