"""Which images show the same surface: from a table, the plates, a data set that is known, or a finished audit."""

import csv
import hashlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from steeldefect.data.known import known_sets, match, same, thumbnails
from steeldefect.data.overlaps import canonical_scenes, scenes_of
from steeldefect.data.sources import ImageSet
from steeldefect.data.tables import read_scenes
from steeldefect.runs.errors import UserError
from steeldefect.runs.identity import digest
from steeldefect.runs.store import MANIFEST, read_json, verify

log = logging.getLogger(__name__)
SCENES, PAIRS, FINGERPRINTS = "scenes.csv", "pairs.csv", "fingerprints.npy"
# a threshold above which hardly an overlap is found: 19 in 20 of those of NEU-CLS stand out by less than 0.59
BLIND = 0.5


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
        table = SceneTable(canonical_scenes(read_scenes(Path(dataset["scenes"]).expanduser(), images.names)), "csv")
        return _with_copies(table, images)
    if images.plates is not None:
        return SceneTable(canonical_scenes(images.plates), "plates")
    thumbs = thumbnails(images.images)
    found = _known(thumbs) or _audited(images, thumbs, artifacts)
    return None if found is None else _with_copies(found, images)


def _with_copies(table: SceneTable, images: ImageSet) -> SceneTable:
    """Scenes joined where they hold the same picture: that needs no audit to be seen, and none may have seen it."""
    first: dict[bytes, int] = {}
    pairs = []
    for k, image in enumerate(images.images):
        other = first.setdefault(hashlib.sha256(image.tobytes()).digest(), k)
        if table.scenes[other] != table.scenes[k]:
            pairs.append((other, k))
    if not pairs:
        return table
    log.warning(
        "%d images are copies of one of another scene (%s and %s): their scenes are taken as one",
        *(len(pairs), images.names[pairs[0][0]], images.names[pairs[0][1]]),
    )
    # a scene is linked through its first image
    _, start = np.unique(table.scenes, return_index=True)
    links = [*zip(start[table.scenes].tolist(), range(len(table.scenes)), strict=True), *pairs]
    known = None if table.pairs is None else np.unique(np.concatenate([table.pairs, np.array(pairs)]), axis=0)
    return SceneTable(scenes_of(len(table.scenes), np.array(links)), table.source, known)


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
    """An audit counts if it names exactly these images and they still look the same, at whatever size; or if it is of the
    same files, which may have other names by now."""
    found: dict[str, tuple[str, SceneTable]] = {}
    for manifest in sorted((artifacts / "scenes").glob(f"[!.]*/{MANIFEST}")):
        folder = manifest.parent
        of_these = _is_of(folder, images.content)
        try:
            names = [row["image"] for row in _rows(folder / SCENES)]
        except (KeyError, OSError, UnicodeDecodeError, csv.Error):
            if of_these:
                verify(folder, "python experiments/audit.py")
            log.warning("%s: damaged; no audit of these images", folder)
            continue
        index = {
            name: k for k, name in enumerate(images.names if of_these and len(names) == len(images.names) else names)
        }
        if index.keys() != set(images.names):
            continue
        verify(folder, "python experiments/audit.py")
        order = np.array([index[name] for name in images.names])
        if not same(thumbs, np.load(folder / FINGERPRINTS)[order]):
            continue
        scenes = np.array([int(row["scene"]) for row in _rows(folder / SCENES)])[order]
        place = np.argsort(order)
        here = {name: int(place[k]) for k, name in enumerate(names)}
        pairs = [sorted((here[row["a"]], here[row["b"]])) for row in _rows(folder / PAIRS)]
        _warn_of_blindness(folder)
        table = SceneTable(
            canonical_scenes(scenes), f"audit:{folder.name}", np.array(sorted(pairs), np.int64).reshape(-1, 2)
        )
        found.setdefault(table.id, (folder.name, table))
    if len(found) > 1:
        told = " and ".join(f"{artifacts / 'scenes' / name}" for name, _ in found.values())
        raise UserError(f"{told} disagree on these images: name one, dataset.scenes=<folder>/{SCENES}, or remove one")
    return next((table for _, table in found.values()), None)


def _is_of(folder: Path, content: str) -> bool:
    """Whether an audit is of exactly these files, in this order, whatever they are called."""
    try:
        identity = read_json(folder / MANIFEST).get("identity")
    except UserError:  # which is told where the audit is needed
        return False
    return isinstance(identity, dict) and identity.get("dataset") == content


def blind(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Classes of an audit's summary in which mirrored pairs resemble each other so much that no overlap could stand out."""
    return [row["class"] for row in rows if row["class"] != "all" and float(row["threshold"]) > BLIND]


def _warn_of_blindness(folder: Path) -> None:
    classes = blind(read_json(folder / MANIFEST).get("summary", {}).get("classes", []))
    if classes:
        log.warning(
            "%s: the audit could not tell overlaps in %s: a split may leak there; name the scenes in dataset.scenes=<csv>",
            *(folder, ", ".join(classes)),
        )


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
