"""The overlap audit of a data set as files: pairs, scenes, a summary a class, and fingerprints to know it again by."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from steeldefect.data.known import pack, thumbnails
from steeldefect.data.layouts import natural_key
from steeldefect.data.overlaps import Overlaps, Pass, Settings, find_overlaps, scenes_of
from steeldefect.data.scenes import FINGERPRINTS, PAIRS, SCENES
from steeldefect.data.sources import ImageSet

SUMMARY = "summary.csv"


@dataclass(frozen=True)
class Audit:
    """names in natural order: the findings' indices count in them, as `images` and `labels` (N,) do."""

    names: tuple[str, ...]
    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    overlaps: Overlaps
    scenes: np.ndarray


def audit(images: ImageSet, settings: Settings, threads: int = 2) -> Audit:
    """The same whatever the order of the images: they are searched in the natural order of their names."""
    order = sorted(range(len(images.names)), key=lambda k: natural_key(images.names[k]))
    pixels, labels = images.images, images.labels
    # a large set is a memory map, which a copy would bring into memory
    if order != list(range(len(order))):
        pixels, labels = pixels[order], labels[order]
    overlaps = find_overlaps(pixels, labels, settings, images.classes, threads)
    scenes = scenes_of(len(order), overlaps.pairs)
    return Audit(tuple(images.names[k] for k in order), pixels, labels, images.classes, overlaps, scenes)


def write_audit(made: Audit, folder: Path) -> None:
    names = made.names
    _write(folder / SCENES, ("image", "scene"), zip(names, made.scenes.tolist(), strict=True))
    columns = ("a", "b", "dy", "dx", "overlap", "score", "distinctness", "agreement", "turns", "mirrored")
    rows = (
        (
            names[one.a],
            names[one.b],
            one.dy,
            one.dx,
            *(f"{value:.4f}" for value in (one.overlap, one.score, one.distinctness, one.agreement)),
            one.view[0],
            int(one.view[1]),
        )
        for one in made.overlaps.findings
    )
    _write(folder / PAIRS, columns, rows)
    summary = summary_rows(made)
    _write(folder / SUMMARY, tuple(summary[0]), (tuple(row.values()) for row in summary))
    np.save(folder / FINGERPRINTS, pack(thumbnails(made.images)))


def summary_rows(made: Audit) -> list[dict[str, Any]]:
    """One row a class, one for the pairs across classes where they were searched, and `all`."""
    pairs = made.overlaps.pairs
    inside = made.labels[pairs[:, 0]] == made.labels[pairs[:, 1]]
    rows = []
    for one in made.overlaps.passes:
        if one.name in made.classes:
            label = made.classes.index(one.name)
            found = pairs[inside & (made.labels[pairs[:, 0]] == label)]
            rows.append(_row(one.name, np.flatnonzero(made.labels == label), found, made.scenes, [one]))
        else:
            rows.append(_row(one.name, np.arange(len(made.names)), pairs[~inside], made.scenes, [one]))
    rows.append(_row("all", np.arange(len(made.names)), pairs, made.scenes, made.overlaps.passes))
    return rows


def _row(
    name: str, images: np.ndarray, found: np.ndarray, scenes: np.ndarray, passes: Sequence[Pass]
) -> dict[str, Any]:
    sizes = np.unique(scenes[images], return_counts=True)[1]
    return {
        "class": name,
        "images": len(images),
        "images_overlapping": len(np.unique(found)),
        "scenes": len(sizes),
        "scenes_of_several": int((sizes > 1).sum()),
        "largest_scene": int(sizes.max(initial=0)),
        "pairs_searched": sum(one.pairs for one in passes),
        "pairs_found": len(found),
        "null_pairs": sum(one.null_pairs for one in passes),
        "null_largest": f"{max(one.null.max(initial=0) for one in passes):.4f}",
        "threshold": f"{max(one.threshold for one in passes):.4f}",
        "mirrored_copies": sum(one.mirrored for one in passes),
    }


def _write(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([columns, *rows])
