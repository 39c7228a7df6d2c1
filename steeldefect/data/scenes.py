"""Which images show the same surface: from a table, the plates, a data set that is known, or a finished audit."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from steeldefect.data.known import known_sets, match, same, thumbnails
from steeldefect.data.overlaps import canonical_scenes
from steeldefect.data.sources import ImageSet
from steeldefect.data.tables import read_scenes
from steeldefect.runs.errors import UserError
from steeldefect.runs.identity import digest
from steeldefect.runs.store import verify

SCENES, PAIRS, FINGERPRINTS = "scenes.csv", "pairs.csv", "fingerprints.npy"


@dataclass(frozen=True, eq=False)
class SceneTable:
    """scenes int64 (N,), dense ids by first appearance; source: csv | plates | known:<name> | audit:<id>.

    pairs int64 (P, 2): the overlapping images one by one, None where only the scenes are known.
    """

    scenes: np.ndarray
    source: str
    pairs: np.ndarray | None = None

    @cached_property
    def id(self) -> str:
        """Digest of the grouping alone: the same wherever it comes from."""
        return digest(self.scenes.tolist())


def scenes_for(images: ImageSet, dataset: Mapping[str, Any], artifacts: Path) -> SceneTable | None:
    """The first that there is: `dataset.scenes`, known plates, a known data set, an audit of these images; or None."""
    if dataset.get("scenes"):
        return SceneTable(canonical_scenes(read_scenes(Path(dataset["scenes"]), images.names)), "csv")
    if images.plates is not None:
        return SceneTable(canonical_scenes(images.plates), "plates")
    thumbs = thumbnails(images.images)
    return _known(thumbs) or _audited(images, thumbs, artifacts)


def overlapping(table: SceneTable, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Which of the `test` images (indices) have a scene with an image in `train`, bool, one entry a test image."""
    return np.isin(table.scenes[test], table.scenes[train])


def overlapping_share(table: SceneTable, train: np.ndarray, test: np.ndarray) -> float:
    """Share of the `test` images (indices) whose scene has an image in `train`."""
    return float(overlapping(table, train, test).mean()) if len(test) else 0.0


def _known(thumbs: np.ndarray) -> SceneTable | None:
    for known in known_sets():
        order = match(thumbs, known.fingerprints)
        if order is not None:
            place = np.argsort(order)
            pairs = np.sort(place[known.pairs], 1)
            pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
            return SceneTable(canonical_scenes(known.scenes[order]), f"known:{known.name}", pairs)
    return None


def _audited(images: ImageSet, thumbs: np.ndarray, artifacts: Path) -> SceneTable | None:
    """An audit counts if it names exactly these images and they still look the same, at whatever size."""
    found: dict[str, tuple[str, SceneTable]] = {}
    for manifest in sorted((artifacts / "scenes").glob("*/manifest.json")):
        folder = manifest.parent
        rows = _rows(folder / SCENES)
        index = {row["image"]: k for k, row in enumerate(rows)}
        if index.keys() != set(images.names):
            continue
        verify(folder, "python experiments/audit.py")
        order = np.array([index[name] for name in images.names])
        if not same(thumbs, np.load(folder / FINGERPRINTS)[order]):
            continue
        scenes = np.array([int(rows[k]["scene"]) for k in order])
        here = {name: k for k, name in enumerate(images.names)}
        pairs = [sorted((here[row["a"]], here[row["b"]])) for row in _rows(folder / PAIRS)]
        table = SceneTable(
            canonical_scenes(scenes), f"audit:{folder.name}", np.array(sorted(pairs), np.int64).reshape(-1, 2)
        )
        found.setdefault(table.id, (folder.name, table))
    if len(found) > 1:
        names = " and ".join(f"{artifacts / 'scenes' / name}" for name, _ in found.values())
        raise UserError(f"{names} disagree on these images: name one, dataset.scenes=<folder>/{SCENES}, or remove one")
    return next((table for _, table in found.values()), None)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
