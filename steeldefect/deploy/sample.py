"""The images on which an export is checked: those of the cell's test part where the data set is at hand."""

import csv
from collections.abc import Mapping
from typing import Any

import numpy as np

from steeldefect.data.rendered import CLASSES, render
from steeldefect.data.sources import load_dataset
from steeldefect.runs.errors import UserError
from steeldefect.runs.store import Store

RENDERED_PER_CLASS = 8


def sample(
    store: Store, record: Mapping[str, Any], root: str | None, size: int, limit: int | None
) -> tuple[np.ndarray, str, str]:
    """Images uint8 `(N, S, S)`, what they are, and why they are not the test part (empty where they are).

    `root`: the folder of the data set, which a record never holds; None where it is found without. `limit`: at most so
    many, evenly spread over the test part, whose names lie beside the record.
    """
    try:
        images = load_dataset({**record["config"]["dataset"], "root": root}, store.root / "cache")
        if images.content != record["ids"]["dataset"]:
            raise UserError(f"the data set found is {images.content}, the cell's was {record['ids']['dataset']}")
    except UserError as error:
        drawn, *_ = render(per_class=RENDERED_PER_CLASS, image_size=size, seed=0)
        return drawn, f"{len(drawn)} rendered images of {len(CLASSES)} classes", str(error)
    with (store.folder("cells", record["id"]) / "predictions.csv").open(newline="") as file:
        names = [row["image"] for row in csv.DictReader(file)]
    rows = {name: row for row, name in enumerate(images.names)}
    if not rows.keys() >= set(names):
        # renamed since: the same files in the same order
        drawn, *_ = render(per_class=RENDERED_PER_CLASS, image_size=size, seed=0)
        gone = next(name for name in names if name not in rows)
        return drawn, f"{len(drawn)} rendered images of {len(CLASSES)} classes", f"no image is called {gone} any more"
    kept = names if limit is None else [names[i] for i in _spread(len(names), limit)]
    return images.images[[rows[name] for name in kept]], f"test part, {len(kept)} of {len(names)} images", ""


def _spread(total: int, limit: int) -> list[int]:
    return np.unique(np.linspace(0, total - 1, min(limit, total)).round().astype(int)).tolist()
