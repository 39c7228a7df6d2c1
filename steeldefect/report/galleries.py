"""Images for Figs. 5 and 6, where they may be shown and where they can be had."""

import csv
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from steeldefect.data.pictures import first_of_each
from steeldefect.data.sources import load_dataset, natural_key
from steeldefect.report.collect import Record

COLUMNS = 8


def may_show(dataset: str, output: Path, artifacts: Path) -> bool:
    """Photographs, and images generated from them, stay under artifacts; drawn ones may go anywhere."""
    return dataset == "rendered" or output.resolve().is_relative_to(artifacts.resolve())


def real_images(record: Record, artifacts: Path) -> np.ndarray | None:
    """The first real training images of each class of the record's split, uint8 (C, n, S, S); None: not at hand."""
    n = len(record["classes"])
    if record["dataset"] == "rendered":
        with tempfile.TemporaryDirectory() as folder:
            cache = artifacts / "cache" if (artifacts / "cache").is_dir() else Path(folder)
            found = load_dataset(record["config"]["dataset"], cache)
            # the array may lie in the temporary folder
            return first_of_each(np.array(found.images), found.labels, n, COLUMNS)
    array = artifacts / "cache" / f"{record['ids'].get('dataset')}.npy"
    table = artifacts / "splits" / str(record["ids"].get("split")) / "split.csv"
    if not (array.is_file() and table.is_file()):
        return None
    with table.open(newline="") as file:
        # the array's own order: by class, then by name
        rows = sorted(csv.DictReader(file), key=lambda row: (row["class"], natural_key(row["image"])))
    train = [k for k, row in enumerate(rows) if row["part"] == "train"]
    labels = np.array([record["classes"].index(rows[k]["class"]) for k in train])
    return first_of_each(np.load(array, mmap_mode="r")[train], labels, n, COLUMNS)


def synthetic_images(records: Sequence[Record], artifacts: Path) -> np.ndarray | None:
    """The first images of each class of the first bank that is at hand, uint8 (C, n, S, S)."""
    for record in records:
        folder = artifacts / "banks" / str(record["ids"].get("bank"))
        if (folder / "images.npy").is_file():
            images, labels = np.load(folder / "images.npy", mmap_mode="r"), np.load(folder / "labels.npy")
            return first_of_each(images, labels, len(record["classes"]), COLUMNS)
    return None


def histories(records: Sequence[Record], artifacts: Path) -> dict[str, dict[str, np.ndarray]]:
    """`gans/<id>/history.csv` of the GANs behind these records, by `<gan> r<seed> <id>`; each column (epochs,)."""
    found = {}
    for record in records:
        path = artifacts / "gans" / str(record["ids"].get("gan")) / "history.csv"
        if path.is_file():
            with path.open(newline="") as file:
                rows = list(csv.DictReader(file))
            name = f"{record['gan']} r{record['gan_seed']} {record['ids']['gan']}"
            found[name] = {key: np.array([float(row[key]) for row in rows]) for key in rows[0]}
    return found
