"""What users say of their images in a CSV file: which show one scene, which part each belongs to."""

import csv
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from steeldefect.runs.errors import UserError, require

PARTS = ("train", "validation", "test")


def given_parts(path: Path | None, folders: Sequence[str] | None, names: Sequence[str]) -> list[str]:
    """Of each image its part, from a CSV `image,part`, else as its folder says.

    UserError where there is neither, or the CSV lacks an image or names another part.
    """
    if path is None:
        require(
            folders is not None,
            "split=given: the images do not lie in train and test folders above their classes (dataset=image_folder); lay "
            "them out so, or give split.parts=<csv> with columns image,part",
        )
        return list(folders or ())
    table = read_table(path, "split.parts", names, "part")
    other = [name for name in names if table[name] not in PARTS]
    require(
        not other,
        lambda: f"{path}: {other[0]} is given to {table[other[0]]!r}; a part is one of {', '.join(PARTS)}",
    )
    return [table[name] for name in names]


def read_scenes(path: Path, names: Sequence[str]) -> np.ndarray:
    """A CSV `image,scene` as dense ids int64 (N,), numbered in the order of `names`."""
    table = read_table(path, "dataset.scenes", names, "scene")
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(table[name], len(numbers)) for name in names], np.int64)


def read_table(path: Path, key: str, names: Sequence[str], what: str) -> dict[str, str]:
    """A CSV `image,<what>` by image; rows of other images are of no account.

    UserError names the file and what is wrong: not there, no such columns, an image missing, twice or without a value.
    """
    require(path.is_file(), f"{key}={path}: no such file")
    table: dict[str, str] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            columns = [column for column in ("image", what) if column not in (rows.fieldnames or ())]
            require(not columns, f"{path}: no column {' and '.join(columns)}; the first line must be image,{what}")
            for row in rows:
                image, value = (row["image"] or "").strip(), (row[what] or "").strip()
                require(bool(image and value), f"{path}: line {rows.line_num}: image or {what} is empty")
                require(image not in table, f"{path}: line {rows.line_num}: {image} is there twice")
                table[image] = value
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV file in UTF-8 ({error})") from error
    # the same letters may be written in two ways: an archive of a Mac holds other bytes than a table of Excel
    composed = {unicodedata.normalize("NFC", image): value for image, value in table.items()}
    if len(composed) == len(table) and len({unicodedata.normalize("NFC", name) for name in names}) == len(names):
        table |= {name: composed[key] for name in names if (key := unicodedata.normalize("NFC", name)) in composed}
    missing = [name for name in names if name not in table]
    require(
        not missing,
        lambda: (
            f"{path}: no {what} for {len(missing)} of {len(names)} images ({', '.join(missing[:3])}"
            f"{' ...' if len(missing) > 3 else ''}); images are named as {names[0]}"
        ),
    )
    return table
