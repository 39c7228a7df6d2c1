"""A generator that is not in here (`gan=folder`): training images go out with a note of their split, its images come back."""

import contextlib
import csv
import functools
import hashlib
import json
import logging
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from steeldefect.data.layouts import IMAGE_SUFFIXES, LABELS_NOTE, SPLIT_NOTE
from steeldefect.data.resize import resize
from steeldefect.data.sources import ImageSet, load_dataset
from steeldefect.runs.errors import require
from steeldefect.runs.store import read_json

log = logging.getLogger(__name__)
CHUNK = 256  # images resized together


def export_training(images: ImageSet, chosen: np.ndarray, note: Mapping[str, Any], target: Path) -> None:
    """The images that a generator may see, as PNG files in a folder a class, and what says so.

    chosen `(n,)`: their indices. `split.json` holds `note` and belongs beside what the generator makes of them;
    `dataset.json` has the labels as StyleGAN's dataset tool reads them, `names.csv` the image that each file is. A folder
    that is there already is left alone.
    """
    if target.exists():
        return
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    rows = []
    for k, index in enumerate(chosen.tolist()):
        label = int(images.labels[index])
        name = f"{images.classes[label]}/{k:06d}.png"
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(images.images[index])).save(partial / name)
        rows.append((name, label, images.names[index]))
    (partial / LABELS_NOTE).write_text(json.dumps({"labels": [row[:2] for row in rows]}))
    with (partial / "names.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("file", "image"), *(row[::2] for row in rows)])
    (partial / SPLIT_NOTE).write_text(json.dumps(dict(note), indent=1) + "\n")
    partial.replace(target)


def load_generated(
    gan: Mapping[str, Any], dataset: Mapping[str, Any], real: ImageSet, note: Mapping[str, Any], cache: Path
) -> ImageSet:
    """The images under `gan.root`, refused unless they were made from the training images that `note` names.

    They are read as the real ones of `dataset` are (gray, its `bits` and `fit`, at most their size), so that no step of the
    reading tells them apart.
    Classes are those of `real`, in its order.
    """
    require(gan["root"] is not None, "gan.root=null: give the folder of the images; docs/your_own_generator.md")
    root = Path(str(gan["root"])).expanduser()
    _require_split(root, note)
    stamp = frozenset((str(path), path.lstat().st_mtime_ns, path.lstat().st_size) for path in root.glob("*/*"))
    side = min(real.images.shape[-1], _usual_side(root))
    way = tuple(_way(dataset, root, side).items())
    return replace(_loaded(way, stamp, real, cache), name=gan["name"])


def _way(dataset: Mapping[str, Any], root: Path, side: int) -> dict[str, Any]:
    as_real = {key: dataset[key] for key in ("bits", "fit", "max_pixels") if dataset.get(key) is not None}
    return {"name": "image_folder", "root": root, "image_size": side} | as_real


@functools.lru_cache(maxsize=2)
def _loaded(way: tuple[tuple[str, Any], ...], stamp: frozenset[Any], real: ImageSet, cache: Path) -> ImageSet:
    """Kept between the cells of a sweep that run in one process, for as long as no file changes (`stamp`)."""
    given = dict(way)
    root, found = given["root"], load_dataset(given, cache, "gan")
    require(
        set(found.classes) == set(real.classes),
        f"gan.root={root}: holds {', '.join(found.classes)}; the classes of the data set are {', '.join(real.classes)}",
    )
    labels = np.array([real.classes.index(name) for name in found.classes], np.int64)[found.labels]
    return replace(found, labels=labels, classes=real.classes)


def _usual_side(root: Path) -> int:
    """The shorter side, in pixels, that most images have; what is wrong with the folder, `load_dataset` says."""
    sides: Counter[int] = Counter()
    for path in root.glob("*/*"):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            with contextlib.suppress(OSError, SyntaxError, ValueError), Image.open(path) as image:
                sides[min(image.size)] += 1
    if len(sides) > 1:
        log.warning("gan.root=%s: images of %d sizes", root, len(sides))
    return sides.most_common(1)[0][0] if sides else sys.maxsize


def _require_split(root: Path, note: Mapping[str, Any]) -> None:
    """`UserError` unless the note beside the images names these very training images."""
    require(root.is_dir(), f"gan.root={root}: no such folder")
    export = (
        "export the training images with `python experiments/split.py ... export=png` and train the generator on them"
    )
    require(
        (root / SPLIT_NOTE).is_file(),
        f"gan.root={root}: no {SPLIT_NOTE}, so nobody can say which images this generator was trained on; {export}, then "
        f"copy their {SPLIT_NOTE} here",
    )
    noted = read_json(root / SPLIT_NOTE)
    require(
        noted.get("training") == note["training"],
        lambda: (
            f"gan.root={root}: made from the training images of {_told(noted)}, this run has those of {_told(note)}: the "
            f"generator may have seen images that this run tests on; {export}"
        ),
    )


def _told(note: Mapping[str, Any]) -> str:
    return f"{note.get('made_by')} (split {note.get('split')}, real_per_class={note.get('real_per_class')})"


def refuse_known(
    gan: Mapping[str, Any], dataset: Mapping[str, Any], real: ImageSet, training: np.ndarray, cache: Path
) -> None:
    """`UserError` where real images that are not of `training` (indices) lie under `gan.root`, pixel for pixel.

    Training images among them are warned of: the bank then holds what the originals hold. At the size of the real ones, since a
    file that is one of theirs, or the export of one, decodes to the same pixels there.
    """
    root = Path(str(gan["root"])).expanduser()
    found = load_dataset(_way(dataset, root, real.images.shape[-1]), cache, "gan")
    numbers = {_fingerprint(image): k for k, image in enumerate(real.images)}
    known = [k for k in (numbers.get(_fingerprint(image)) for image in found.images) if k is not None]
    held_out = sorted({real.names[k] for k in known} - {real.names[k] for k in training.tolist()})
    require(
        not held_out,
        lambda: (
            f"gan.root: {len(held_out)} of the images are real ones that are not for training here ({held_out[0]}, ...); "
            "put only what the generator made there"
        ),
    )
    if known:
        log.warning(
            "gan=folder: %d of the images are training images, unchanged (%s ...)", len(known), real.names[known[0]]
        )


def _fingerprint(image: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).digest()


def in_turns(labels: np.ndarray) -> np.ndarray:
    """Indices `(n,)` that take one image of each class after the other, for as long as a class has any left."""
    turn = np.empty(len(labels), np.int64)
    for c in np.unique(labels):
        own = np.flatnonzero(labels == c)
        turn[own] = np.arange(len(own))
    return np.lexsort((labels, turn))


def at_size(images: ImageSet, order: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """The images in this order in chunks, uint8 `(n, size, size)`."""
    for start in range(0, len(order), CHUNK):
        yield resize(np.asarray(images.images[order[start : start + CHUNK]]), size).numpy()
