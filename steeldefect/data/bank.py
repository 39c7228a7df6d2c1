"""A bank of labelled synthetic images: written once, memory-mapped after."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from steeldefect.data.decode import new_array
from steeldefect.data.pictures import first_of_each, sheet
from steeldefect.runs.errors import UserError
from steeldefect.runs.identity import derived_seed
from steeldefect.runs.store import read_json

SHEET_COLUMNS = 12
DIVERSITY_IMAGES = 300


def labels_in_turn(count: int, classes: int) -> np.ndarray:
    """int64 `(count,)`: image k of a drawn bank is of class k mod C."""
    return np.arange(count, dtype=np.int64) % classes


def write_bank(
    folder: Path,
    chunks: Iterable[np.ndarray],
    labels: np.ndarray,
    classes: Sequence[str],
    size: int,
    places: np.ndarray | None = None,
) -> None:
    """`images.npy` uint8 `(count, size, size)`, `labels.npy` int64 `(count,)` and `sheet.png`.

    places `(count,)`: which image of the bank each of those in `chunks` is; None: they come in order.
    """
    count = len(labels)
    images = new_array(folder / "images.npy", (count, size, size))
    done = 0
    for chunk in chunks:
        part = slice(done, done + len(chunk))
        images[part if places is None else places[part]] = chunk
        done += len(chunk)
    if done != count:
        raise RuntimeError(f"the generator gave {done} of {count} images")
    images.flush()
    np.save(folder / "labels.npy", labels)
    sheet(first_of_each(images, labels, len(classes), SHEET_COLUMNS), classes).save(folder / "sheet.png")


def read_bank(folder: Path, split_id: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (memory-mapped) and labels of a finished bank, refused where it was trained on another split."""
    identity = read_json(folder / "manifest.json").get("identity")
    split = identity.get("split") if isinstance(identity, dict) else None
    if split != split_id:
        raise UserError(
            f"bank {folder.name} stands on split {split}, this cell on {split_id}: its generator may have "
            "seen this cell's test images"
        )
    return np.load(folder / "images.npy", mmap_mode="r"), np.load(folder / "labels.npy")


def pick(labels: np.ndarray, counts: Sequence[int], classes: Sequence[str]) -> np.ndarray:
    """Indices of the first `counts[c]` bank images of each class, ascending: mixes of one bank are nested."""
    picked = []
    for c, wanted in enumerate(counts):
        found = np.flatnonzero(labels == c)
        if len(found) < wanted:
            raise UserError(
                f"bank.count: the mix wants {wanted} images of {classes[c]}, the bank holds {len(found)}; draw more (with "
                "gan=folder: put more of them under gan.root)"
            )
        picked.append(found[:wanted])
    return np.sort(np.concatenate(picked))


def permuted(labels: np.ndarray, seed: int) -> np.ndarray:
    """The labels of a bank, permuted over the whole bank: each class keeps its number of images and nothing else."""
    return np.random.default_rng(derived_seed("shuffled", seed)).permutation(labels)


def diversity(images: np.ndarray, labels: np.ndarray, classes: int) -> list[float]:
    """A class's spread of gray levels: standard deviation of each pixel over its images, averaged over the pixels.

    uint8 `(N, S, S)`, labels `(N,)`; at most the first `DIVERSITY_IMAGES` of a class are looked at.
    """
    spreads = []
    for c in range(classes):
        own = images[np.flatnonzero(labels == c)[:DIVERSITY_IMAGES]]
        spreads.append(float(own.std(axis=0, dtype=np.float32).mean()) if len(own) else 0.0)
    return spreads


def export_png(folder: Path, target: Path, classes: Sequence[str]) -> None:
    """The bank as a folder a class of PNG files named by their number; `target` is there when it is whole."""
    images, labels = np.load(folder / "images.npy", mmap_mode="r"), np.load(folder / "labels.npy")
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for name in classes:
        (partial / name).mkdir(parents=True)
    for k, (image, label) in enumerate(zip(images, labels, strict=True)):
        Image.fromarray(np.asarray(image)).save(partial / classes[label] / f"{k:06d}.png")
    if target.exists():
        shutil.rmtree(target)
    partial.rename(target)
