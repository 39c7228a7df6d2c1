"""Read the records of cells, from a folder of artifacts or of committed results, and write the latter."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from steeldefect.report.statistics import Answers
from steeldefect.runs.errors import UserError
from steeldefect.runs.portable import without_path, without_paths
from steeldefect.runs.store import MANIFEST, read_json, verify

Record = dict[str, Any]
RECORDS, PREDICTIONS = "records.jsonl", "predictions.csv"
IMAGE_COLUMNS = ("dataset", "image", "scene", "label", "overlaps")
FIELDS: dict[str, type | tuple[type, ...]] = {
    "id": str,
    "recipe": int,
    "dataset": str,
    "split": str,
    "scale": str,
    "schedules": list,
    "gan": str,
    "mix": str,
    "augment": str,
    "real_per_class": (int, type(None)),
    "classifier": str,
    "replicate": int,
    "ids": dict,
    "config": dict,
    "classes": list,
    "counts": dict,
    "metrics": dict,
    "per_class": dict,
    "confusion": list,
    "trained": bool,
    "cost": dict,
    "environment": dict,
}


@dataclass
class Collection:
    records: list[Record] = field(default_factory=list)
    tested: dict[str, Answers] = field(default_factory=dict)  # by record id, where predictions are at hand
    skipped: list[str] = field(default_factory=list)  # "<cell>: why", one for each record that could not be read


def folders(source: str | Sequence[str]) -> list[Path]:
    """The config value `source`: one folder, or a list of them."""
    return [Path(source)] if isinstance(source, str) else [Path(folder) for folder in source]


def read_records(source: Path) -> list[Record]:
    return collect(source).records


def collect(*sources: Path) -> Collection:
    """Finished cells of each source (artifacts, or its cells), else every records.jsonl in it or below; each id once.

    So a study that was begun on another machine goes on from its committed records. A damaged record is skipped and
    named in `skipped`; folders without a manifest are not finished and not looked at.
    """
    whole = Collection()
    for source in sources:
        found, known = _collect(source), {record["id"] for record in whole.records}
        whole.records += [record for record in found.records if record["id"] not in known]
        whole.tested = found.tested | whole.tested
        whole.skipped += found.skipped
    whole.records.sort(key=_order)
    return whole


def _collect(source: Path) -> Collection:
    if not source.is_dir():
        raise UserError(f"source={source}: no such folder; give artifacts, or a folder of committed results")
    cells = source / "cells" if (source / "cells").is_dir() else source
    finished = sorted(path.parent for path in cells.glob(f"*/{MANIFEST}") if not path.parent.name.startswith("."))
    finished = [folder for folder in finished if (folder / "record.json").exists() or cells.name == "cells"]
    files = [] if finished else sorted(source.rglob(RECORDS))
    collection = Collection()
    for folder in finished:
        _read_cell(folder, collection)
    for file in files:
        _read_committed(file, collection)
    if not finished and not files:
        raise UserError(f"source={source}: holds neither finished cells (<id>/{MANIFEST}) nor {RECORDS}")
    if not collection.records:
        raise UserError(f"source={source}: no record could be read: {'; '.join(collection.skipped[:3])}")
    return collection


def _order(record: Record) -> tuple[Any, ...]:
    kind = [record[key] for key in ("dataset", "split", "scale", "gan", "augment")]
    return (
        *kind,
        record["real_per_class"] or 0,
        record["classifier"],
        record["mix"],
        record["replicate"],
        record.get("train_seed", 0),
        record["id"],
    )


def _read_cell(folder: Path, collection: Collection) -> None:
    try:
        verify(folder, names=("record.json", PREDICTIONS))
        record = read_json(folder / "record.json")
        check(record)
        record["made"] = _made(folder / MANIFEST)
        record["upstream"] = {
            stage: _made(manifest)
            for stage in ("gan", "bank", "initial")
            if (manifest := folder.parents[1] / f"{stage}s" / str(record["ids"].get(stage)) / MANIFEST).is_file()
        }
        if (folder / PREDICTIONS).is_file():
            collection.tested[record["id"]] = _read_predictions(folder / PREDICTIONS, record["classes"])
        collection.records.append(record)
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        collection.skipped.append(f"{folder.name}: {_short(error, folder)}")


def _short(error: Exception, folder: Path) -> str:
    """The message without the machine's own folders."""
    return " ".join(str(error).replace(f"{folder}/", "").replace(str(folder), folder.name).split()) or "damaged"


def check(record: Record) -> None:
    """`UserError` unless the record has every field of the right type and its figures lie in [0, 1]."""
    for key, kind in FIELDS.items():
        if key not in record:
            raise UserError(f"record.json: {key} is missing")
        if not isinstance(record[key], kind):
            raise UserError(f"record.json: {key}={record[key]!r} is no {getattr(kind, '__name__', 'whole number')}")
    n = len(record["classes"])
    if np.shape(record["confusion"]) != (n, n):
        raise UserError(f"record.json: confusion is {np.shape(record['confusion'])}, must be {(n, n)}")
    for name in ("accuracy", "mean_pr"):
        if name not in record["metrics"]:
            raise UserError(f"record.json: metrics.{name} is missing")
    for name, value in record["metrics"].items():
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise UserError(f"record.json: metrics.{name}={value!r}: must lie in [0, 1]")
    for name, values in record["per_class"].items():
        if len(values) != n or not all(isinstance(value, int | float) and 0 <= value <= 1 for value in values):
            raise UserError(f"record.json: per_class.{name}: {n} numbers in [0, 1] expected")


def _made(manifest: Path) -> dict[str, Any]:
    whole = read_json(manifest)
    made = whole.get("made", {}) | {"precision": whole.get("identity", {}).get("precision")}
    kept = {key: made[key] for key in ("utc", "seconds", "commit", "precision") if made.get(key) is not None}
    return kept | {"command": without_path(str(made.get("command", "")))}


def _read_predictions(path: Path, classes: Sequence[str]) -> Answers:
    """`image,label,scene,overlaps,logit_<class>…`; the label is a class or its number, scene and overlaps may be empty."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    number = {name: index for index, name in enumerate(classes)}
    logits = np.array([[float(row[f"logit_{name}"]) for name in classes] for row in rows])
    labels = [number[row["label"]] if row["label"] in number else int(row["label"]) for row in rows]
    scenes = [int(row["scene"] or -1) for row in rows]
    overlaps = [int(row.get("overlaps") or -1) for row in rows]
    return _tested([row["image"] for row in rows], scenes, labels, logits.argmax(1), overlaps)


def _tested(
    image: Sequence[str], scene: Sequence[int], label: Sequence[int], predicted: Any, overlaps: Sequence[int]
) -> Answers:
    """Sorted by image, so that the arms of a replicate line up."""
    order = np.argsort(np.array(image))
    columns = (np.array(column, dtype=np.int64)[order] for column in (scene, label, predicted, overlaps))
    return Answers(np.array(image)[order], *columns)


def _read_committed(path: Path, collection: Collection) -> None:
    known = {record["id"] for record in collection.records}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            record = json.loads(line)
            check(record)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            collection.skipped.append(f"{path.parent.name}/{path.name} line {number}: {error}")
            continue
        if record["id"] not in known:
            collection.records.append(record)
    predictions = path.parent / PREDICTIONS
    if predictions.is_file():
        try:
            collection.tested.update(_read_answers(predictions))
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise UserError(f"{predictions}: damaged ({_short(error, path.parent)}); take it from git again") from None


def _read_answers(path: Path) -> dict[str, Answers]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    answers: dict[str, Answers] = {}
    for cell in [name for name in rows[0] if name not in IMAGE_COLUMNS] if rows else []:
        own = [row for row in rows if row[cell]]
        numbers = {name: [int(row.get(name) or -1) for row in own] for name in ("scene", "label", "overlaps", cell)}
        answers[cell] = _tested(
            [row["image"] for row in own], numbers["scene"], numbers["label"], numbers[cell], numbers["overlaps"]
        )
    return answers


def write_committed(collection: Collection, folder: Path) -> None:
    """records.jsonl, one line a cell, and predictions.csv: the class that each cell gave each of its test images."""
    lines = [json.dumps(without_paths(record), sort_keys=True, allow_nan=False) for record in collection.records]
    (folder / RECORDS).write_text("\n".join(lines) + "\n")
    ids = [record["id"] for record in collection.records if record["id"] in collection.tested]
    if not ids:
        (folder / PREDICTIONS).unlink(missing_ok=True)
        return
    content = {record["id"]: record["ids"].get("dataset") or record["dataset"] for record in collection.records}
    # an image that overlaps the training part of one split and not of another has a row for each
    rows: dict[tuple[str, str, int, int, int], dict[str, int]] = {}
    for identifier in ids:
        tested = collection.tested[identifier]
        columns = (tested.image, tested.scene, tested.label, tested.overlaps, tested.predicted)
        for image, scene, label, overlaps, predicted in zip(*(column.tolist() for column in columns), strict=True):
            rows.setdefault((content[identifier], image, scene, label, overlaps), {})[identifier] = predicted
    with (folder / PREDICTIONS).open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*IMAGE_COLUMNS, *ids])
        for (dataset, image, scene, label, overlaps), given in sorted(rows.items()):
            answers = [given.get(identifier, "") for identifier in ids]
            known = [value if value >= 0 else "" for value in (scene, label, overlaps)]
            writer.writerow([dataset, image, *known, *answers])
