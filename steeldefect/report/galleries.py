"""Images for Figs. 5 and 6, where they may be shown and where they can be had."""

import csv
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from steeldefect.data.layouts import natural_key
from steeldefect.data.pictures import first_of_each
from steeldefect.data.sources import load_dataset
from steeldefect.report.collect import Record

COLUMNS = 8


def may_show(dataset: str, output: Path, artifacts: Path) -> bool:
    """Photographs, and images generated from them, stay under artifacts; drawn ones may go anywhere."""
    return dataset == "rendered" or output.resolve().is_relative_to(artifacts.resolve())


def real_images(record: Record, artifacts: Path) -> np.ndarray | None:
    """The first real training images of each class of the record's split, uint8 (C, n, S, S); None: not at hand."""
    found = training_images(record, artifacts)
    return None if found is None else first_of_each(*found, len(record["classes"]), COLUMNS)


def training_images(record: Record, artifacts: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """uint8 (N, S, S) and labels (N,) of the training part of the record's split; None: not at hand.

    Of the rendered data set all images, where its split is not at hand.
    """
    ids = record.get("ids", {})
    table = artifacts / "splits" / str(ids.get("split")) / "split.csv"
    rows = _rows(table) if table.is_file() else []
    training = {row["image"] for row in rows if row["part"] == "train"}
    if record["dataset"] == "rendered":
        with tempfile.TemporaryDirectory() as folder:
            cache = artifacts / "cache" if (artifacts / "cache").is_dir() else Path(folder)
            found = load_dataset(record["config"]["dataset"], cache)
            kept = np.array([not rows or name in training for name in found.names])
            # the array may lie in the temporary folder
            return np.array(found.images[kept]), found.labels[kept]
    array = artifacts / "cache" / f"{ids.get('dataset')}.npy"
    if not (array.is_file() and rows):
        return None
    # the array's own order: by class, then by name
    rows.sort(key=lambda row: (row["class"], natural_key(row["image"])))
    train = [k for k, row in enumerate(rows) if row["part"] == "train"]
    labels = np.array([record["classes"].index(rows[k]["class"]) for k in train])
    return np.load(array, mmap_mode="r")[train], labels


def synthetic_images(records: Sequence[Record], artifacts: Path) -> np.ndarray | None:
    """The first images of each class of the first bank that is at hand, uint8 (C, n, S, S)."""
    found = bank_of_first(records, artifacts)
    return None if found is None else first_of_each(found[1], found[2], len(found[0]["classes"]), COLUMNS)


def bank_of_first(records: Sequence[Record], artifacts: Path) -> tuple[Record, np.ndarray, np.ndarray] | None:
    """The first record whose bank is at hand, with its images, uint8 (N, S, S), and labels (N,)."""
    for record in records:
        folder = artifacts / "banks" / str(record["ids"].get("bank"))
        if (folder / "images.npy").is_file():
            return record, np.load(folder / "images.npy", mmap_mode="r"), np.load(folder / "labels.npy")
    return None


def histories(records: Sequence[Record], artifacts: Path) -> dict[str, dict[str, np.ndarray]]:
    """`gans/<id>/history.csv` of the GANs behind these records, by `<gan> r<seed> <id>`; each column (epochs,)."""
    return {
        name: {key: np.array([float(row[key]) for row in rows]) for key in rows[0]}
        for name, rows in gan_rows(records, artifacts, "history.csv").items()
    }


def gan_rows(records: Sequence[Record], artifacts: Path, file: str) -> dict[str, list[dict[str, str]]]:
    """The rows of a CSV file in the folders of the GANs behind these records, by `<gan> r<seed> <id>`."""
    paths = {
        f"{record['gan']} r{record['gan_seed']} {record['ids']['gan']}": artifacts
        / "gans"
        / record["ids"]["gan"]
        / file
        for record in records
        if record["ids"].get("gan")
    }
    found = {name: _rows(path) for name, path in paths.items() if path.is_file()}
    return {name: rows for name, rows in found.items() if rows}


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
