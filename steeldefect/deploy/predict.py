"""Class and probability of image files, by onnxruntime or torch: steeldefect-predict model=model.onnx images=folder"""

import csv
import glob
import io
import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low
from typing import Any

import numpy as np
from omegaconf import DictConfig
from PIL import UnidentifiedImageError
from rich.console import Console
from rich.table import Table

from steeldefect.data.decode import Facts, Reading, decode_with_facts
from steeldefect.data.layouts import IMAGE_SUFFIXES, natural_key
from steeldefect.data.sources import DARK, scales_in_words
from steeldefect.deploy.backends import TorchModel, load_model
from steeldefect.deploy.card import Card
from steeldefect.runs.errors import UserError, nearest, require
from steeldefect.runs.verb import verb

log = logging.getLogger(__name__)
UNREADABLE = 3  # exit code where some files could not be read
_THREADS = 4


@dataclass(frozen=True)
class Prediction:
    file: str
    label: str
    probability: float
    probabilities: tuple[float, ...]  # of each class, in the order of the card's labels


@dataclass(frozen=True)
class Unreadable:
    file: str
    reason: str


def find_images(pattern: Any) -> tuple[list[Path], Path]:
    """The files of a folder (by their endings, at any depth), of a pattern, or the one file; and what lies above them."""
    require(pattern is not None, "images=null: give a folder, a file, or a pattern such as 'scans/*.png'")
    path = Path(str(pattern)).expanduser()
    if path.is_dir():
        # dot files and __MACOSX hold an archiver's notes, some of them named like images
        inside = (
            p
            for p in path.rglob("*")
            if not any(part.startswith((".", "__MACOSX")) for part in p.relative_to(path).parts)
        )
        root, found = path, [p for p in inside if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
    elif path.is_file():
        root, found = path.parent, [path]
    else:
        # pathlib's own takes no absolute pattern
        names = glob.glob(str(path), recursive=True)  # noqa: PTH207
        found = [Path(name) for name in names if Path(name).is_file()]
        root = Path(os.path.commonpath([p.parent for p in found])) if found else Path()
    endings = " ".join(sorted(IMAGE_SUFFIXES))
    require(bool(found), f"images={pattern}: no such file, and no image ({endings}) in a folder of that name")
    return sorted(found, key=lambda p: natural_key(str(p))), root


Batch = tuple[list[Path], np.ndarray, list[Facts]]


def batches(files: Sequence[Path], reading: Reading, batch: int, bad: list[Unreadable]) -> Iterator[Batch]:
    """(files, uint8 `(n, size, size)`, facts) as the data layer decodes them; what cannot be read is added to `bad`."""

    def read(path: Path) -> tuple[np.ndarray, Facts] | str:
        try:
            return decode_with_facts(path, reading)
        except UnidentifiedImageError:
            return "not an image"
        # damaged files make Pillow's readers raise nearly anything
        except Exception as error:
            return str(error) or type(error).__name__

    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(files), batch):
            part = files[start : start + batch]
            kept: list[tuple[Path, np.ndarray, Facts]] = []
            for path, found in zip(part, pool.map(read, part), strict=True):
                if isinstance(found, str):
                    log.warning("%s: cannot be read (%s); skipped", path, found)
                    bad.append(Unreadable(str(path), found))
                else:
                    kept.append((path, *found))
            if kept:
                paths, images, facts = zip(*kept, strict=True)
                yield list(paths), np.stack(images), list(facts)


def predictions(card: Card, files: Sequence[Path], probabilities: np.ndarray) -> list[Prediction]:
    best = probabilities.argmax(1)
    return [
        Prediction(str(path), card.labels[k], float(row[k]), tuple(map(float, row)))
        for path, row, k in zip(files, probabilities, best, strict=True)
    ]


def as_csv(card: Card, found: Sequence[Prediction], bad: Sequence[Unreadable]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "class", "probability", *(f"p_{name}" for name in card.labels)])
    for p in found:
        writer.writerow([p.file, p.label, f"{p.probability:.6f}", *(f"{x:.6f}" for x in p.probabilities)])
    return text.getvalue()


def as_json(card: Card, found: Sequence[Prediction], bad: Sequence[Unreadable]) -> str:
    images = [
        {
            "file": p.file,
            "class": p.label,
            "probability": p.probability,
            "probabilities": dict(zip(card.labels, p.probabilities, strict=True)),
        }
        for p in found
    ]
    unreadable = [{"file": item.file, "reason": item.reason} for item in bad]
    return json.dumps({"model": card.provenance, "images": images, "unreadable": unreadable}, indent=1) + "\n"


def as_table(card: Card, found: Sequence[Prediction], bad: Sequence[Unreadable]) -> str:
    table = Table("file", "class", "probability", box=None)
    table.columns[0].overflow, table.columns[2].justify = "fold", "right"
    for p in found:
        table.add_row(p.file, p.label, f"{p.probability:.4f}")
    for item in bad:
        table.add_row(item.file, "cannot be read", "")
    console = Console(file=io.StringIO(), width=max(Console().width, 60))
    console.print(table, markup=False)
    return console.file.getvalue()  # type: ignore[attr-defined]  # the StringIO above


FORMATS: dict[str, Callable[[Card, Sequence[Prediction], Sequence[Unreadable]], str]] = {
    "table": as_table,
    "csv": as_csv,
    "json": as_json,
}


def predict(options: DictConfig) -> int:
    """Run a model over files and write what was found; the exit code."""
    kind, batch, bits = options.format, options.batch_size, options.bits
    require(kind in FORMATS, lambda: f"format={kind}: {nearest(str(kind), FORMATS)}")
    require(isinstance(batch, int) and batch > 0, f"batch_size={batch}: must be a whole number from 1 up")
    good = bits is None or (isinstance(bits, int) and not isinstance(bits, bool) and 8 <= bits <= 16)
    require(good, f"bits={bits}: must be null or a whole number from 8 to 16, such as 12")
    model = load_model(options.model, options.threads)
    overlay = _overlays(model, options.gradcam)
    files, root = find_images(options.images)
    found: list[Prediction] = []
    bad: list[Unreadable] = []
    reading = model.card.reading(options.max_pixels, bits)
    deepest: list[int] = []
    scales: Counter[float] = Counter()
    for part, images, facts in batches(files, reading, batch, bad):
        results = predictions(model.card, part, model.probabilities(images))
        found += results
        deepest += [of.deepest for of in facts if of.deepest]
        scales.update(of.scale for of in facts if of.scale is not None)
        if overlay is not None:
            overlay(part, root, images, [model.card.labels.index(p.label) for p in results])
    _tell(deepest, reading)
    if len(scales) > 1:
        log.warning(
            "of the float and 32-bit images %s; those of the larger scale may be black to the model: save all on one scale",
            scales_in_words(sorted(scales.items())),
        )
    text = FORMATS[kind](model.card, found, bad)
    if options.output is None:
        sys.stdout.write(text)
    else:
        _write(Path(str(options.output)).expanduser(), text)
    if bad:
        log.error("%d of %d files could not be read", len(bad), len(files))
    return UNREADABLE if bad else 0


def _tell(deepest: Sequence[int], reading: Reading) -> None:
    """As training does; `deepest` are the largest values of the 16-bit files."""
    if reading.bits is None and deepest and (usual := median_low(deepest)) < DARK:
        log.warning(
            "the 16-bit images reach %d of 65535 (median of their maxima), so they are dark or black to the model; of a "
            "camera of fewer bits? Then give bits=%d",
            *(usual, max(8, usual.bit_length())),
        )


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # a name that is no UTF-8 is written as the bytes that it is
        whole = text.encode("utf-8", "surrogateescape")
        path.write_bytes(whole)
    except OSError as error:
        raise UserError(f"output={path}: cannot be written ({error.strerror})") from None


def _overlays(model: Any, folder: Any) -> Callable[[list[Path], Path, np.ndarray, list[int]], None] | None:
    if folder is None:
        return None
    require(
        isinstance(model, TorchModel),
        f"gradcam={folder}: needs gradients, so a model of torch: python experiments/export.py cell=... format=torch",
    )
    # here, so that prediction does without torch
    from steeldefect.deploy.gradcam import write_overlays

    target = Path(str(folder)).expanduser()
    return lambda files, root, images, classes: write_overlays(model, target, files, root, images, classes)


@verb("predict", Path(__file__).parent / "conf")
def main(cfg: DictConfig) -> None:
    code = predict(cfg)
    if code:
        sys.exit(code)


if __name__ == "__main__":
    main()
