"""Writes tests/report/fixture/cells: invented records of a small study with the holes that a real one has.

    python -m tests.report.make_fixture

and tests/report/expected, the tables made of them: read the difference before it is committed.
"""

import csv
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from steeldefect.report.collect import collect, write_committed
from steeldefect.report.contrasts import Declared
from steeldefect.report.write import Grid, write_report

FIXTURE = Path(__file__).parent / "fixture"
EXPECTED = Path(__file__).parent / "expected"
GOLDEN = (
    "table2.md",
    "table2.csv",
    "table3.md",
    "table3.csv",
    "contrasts.md",
    "contrasts.csv",
    "summary.csv",
    "README.md",
)
# of the studies below, in a folder each
GOLDEN_OF = {
    "controls": ("contrasts.md", "contrasts.csv", "controls.md", "controls.csv", "summary.csv", "README.md"),
    "low_data": ("contrasts.csv", "low_data.md", "low_data.csv", "exchange.csv", "README.md"),
}
GRID = Grid(
    table2_mixes=["org100", "org75", "org50", "org30", "org20", "org0"],
    table3_classifiers=["mobilenet_v2", "small_cnn", "resnet19", "vgg16"],
    table3_mixes=["org100", "org20", "org0"],
)
CLASSES = ["crazing", "inclusion", "patches", "pitted_surface", "rolled-in_scale", "scratches"]
SHARES = {"org100": 0.0, "org75": 0.25, "org50": 0.5, "org30": 0.7, "org20": 0.8, "org0": 1.0, "shuffled": 0.8}
SHARES |= {"classical": 0.0, "oversampled": 0.0, "bank1000": 0.9, "real_extra": 0.0}
# share of right answers; org30 is missing, vgg16 trains on org0 alone, resnet19 has no org0, small_cnn one run short
CELLS: dict[tuple[str, str], dict[int, float | None]] = {
    ("mobilenet_v2", "org100"): {0: 0.86, 1: 0.9},
    ("mobilenet_v2", "org75"): {0: 0.88, 1: 0.9},
    ("mobilenet_v2", "org50"): {0: 0.9, 1: 0.88},
    ("mobilenet_v2", "org20"): {0: 0.92, 1: 0.94},
    ("mobilenet_v2", "org0"): {0: 0.6, 1: 0.7},
    ("small_cnn", "org100"): {0: 0.8, 1: 0.82},
    ("small_cnn", "org20"): {0: 0.84},
    ("small_cnn", "org0"): {0: 0.5, 1: 0.55},
    ("resnet19", "org100"): {0: 0.9, 1: 0.92},
    ("resnet19", "org20"): {0: 1.0, 1: None},
    ("vgg16", "org100"): {0: None, 1: None},
    ("vgg16", "org20"): {0: None, 1: None},
    ("vgg16", "org0"): {0: 0.4},
}
WITHOUT_PREDICTIONS = "small_cnn"
FOUR = (0, 1, 2, 3)
# arm (classifier, mix, schedule, augment, real images a class): share of right answers by replicate
Arm = tuple[str, str, str, str, int | None]
STUDIES: dict[str, dict[Arm, dict[int, float | None]]] = {
    # one org20 did not train, one classical is missing, so is oversampled under schedule=paper of small_cnn
    "controls": {
        ("mobilenet_v2", "org100", "fixed_steps", "none", None): dict.fromkeys(FOUR, 0.85),
        ("mobilenet_v2", "org20", "fixed_steps", "none", None): dict.fromkeys(FOUR, 0.97),
        ("mobilenet_v2", "org0", "fixed_steps", "none", None): {0: 0.5, 1: None},
        ("mobilenet_v2", "classical", "fixed_steps", "none", None): dict.fromkeys(FOUR, 0.9),
        ("mobilenet_v2", "shuffled", "fixed_steps", "none", None): dict.fromkeys(FOUR, 0.6),
        ("small_cnn", "org100", "fixed_steps", "none", None): dict.fromkeys(FOUR, 0.8),
        ("small_cnn", "org20", "fixed_steps", "none", None): {0: 0.8, 1: 0.8, 2: None, 3: 0.8},
        ("small_cnn", "classical", "fixed_steps", "none", None): dict.fromkeys(FOUR[:3], 0.82),
        ("mobilenet_v2", "org100", "paper", "none", None): dict.fromkeys(FOUR, 0.8),
        ("mobilenet_v2", "oversampled", "paper", "none", None): dict.fromkeys(FOUR, 0.86),
        ("mobilenet_v2", "org100", "fixed_steps", "classical", None): dict.fromkeys(FOUR, 0.92),
        ("mobilenet_v2", "org20", "fixed_steps", "classical", None): dict.fromkeys(FOUR, 0.93),
    },
    # a bank worth more than 10 real images and less than 50; at 20 worse than nothing; bank1000 did not train at 20
    "low_data": {
        ("mobilenet_v2", "org100", "fixed_steps", "none", 10): dict.fromkeys(FOUR, 0.5),
        ("mobilenet_v2", "org20", "fixed_steps", "none", 10): dict.fromkeys(FOUR, 0.7),
        ("mobilenet_v2", "bank1000", "fixed_steps", "none", 10): dict.fromkeys(FOUR, 0.95),
        ("mobilenet_v2", "real_extra", "fixed_steps", "none", 10): dict.fromkeys(FOUR, 0.85),
        ("mobilenet_v2", "org100", "fixed_steps", "none", 20): dict.fromkeys(FOUR, 0.65),
        ("mobilenet_v2", "org20", "fixed_steps", "none", 20): dict.fromkeys(FOUR, 0.3),
        ("mobilenet_v2", "bank1000", "fixed_steps", "none", 20): dict.fromkeys(FOUR),
        ("mobilenet_v2", "org100", "fixed_steps", "classical", 10): {0: 0.6},
        ("mobilenet_v2", "org20", "fixed_steps", "classical", 10): {0: 0.65},
    },
}
STUDY_GRIDS = {
    "controls": replace(
        GRID,
        arms={
            "none": Declared(["mobilenet_v2", "small_cnn"], ["org100", "org20", "org0", "classical", "shuffled"]),
            "classical": Declared(["mobilenet_v2", "small_cnn"], ["org100", "org20", "org0"]),
        },
    ),
    "low_data": replace(
        GRID,
        arms=dict.fromkeys(
            ("none", "classical"),
            Declared(["mobilenet_v2"], ["org100", "classical", "org20", "bank1000", "real_extra"]),
        ),
    ),
}


def main() -> None:
    shutil.rmtree(FIXTURE, ignore_errors=True)
    for number, ((classifier, mix), by_replicate) in enumerate(CELLS.items()):
        for replicate, right in by_replicate.items():
            write_cell(FIXTURE / "cells", f"{number:010x}{replicate:02x}", classifier, mix, replicate, right)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder)
        write_report(collect(FIXTURE), output, GRID, output / "artifacts", "table3")
        EXPECTED.mkdir(exist_ok=True)
        for name in GOLDEN:
            shutil.copyfile(output / name, EXPECTED / name)
    for number, study in enumerate(STUDIES, 1):
        with tempfile.TemporaryDirectory() as folder:
            write_study(Path(folder), study, number)
            write_report(collect(FIXTURE / study), Path(folder), STUDY_GRIDS[study], Path(folder), study, figures=False)
            (EXPECTED / study).mkdir(exist_ok=True)
            for name in GOLDEN_OF[study]:
                shutil.copyfile(Path(folder) / name, EXPECTED / study / name)


def write_study(folder: Path, study: str, number: int) -> None:
    """records.jsonl and predictions.csv of a study, in FIXTURE/<study>."""
    for arm, ((classifier, mix, schedule, augment, k), by_replicate) in enumerate(STUDIES[study].items()):
        for replicate, right in by_replicate.items():
            identifier = f"{number:04x}{arm:06x}{replicate:02x}"
            write_cell(folder / "cells", identifier, classifier, mix, replicate, right, 5)
            record = folder / "cells" / identifier / "record.json"
            changed = json.loads(record.read_text()) | {"augment": augment, "real_per_class": k}
            changed["schedules"] = ["fixed_steps", "paper"] if mix == "org20" else [schedule]
            if k is not None:
                changed["counts"]["real"] = 6 * (5 * k if mix == "real_extra" else k)
            dump(record, changed)
    (FIXTURE / study).mkdir()
    write_committed(collect(folder / "cells"), FIXTURE / study)


def tested(replicate: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names, scenes and labels of one half of 24 images a class, in scenes of 1 to 4."""
    names, scenes, labels = [], [], []
    for label, name in enumerate(CLASSES):
        for k in range(24):
            scene = 10 * label + int(np.sqrt(k * 4))
            if scene % 2 == replicate % 2:
                names.append(f"{name}_{k + 1}")
                scenes.append(scene)
                labels.append(label)
    return names, np.array(scenes), np.array(labels)


def write_cell(
    folder: Path, identifier: str, classifier: str, mix: str, replicate: int, right: float | None, seed: int = 7
) -> None:
    rng = np.random.default_rng([int(identifier, 16), seed])
    names, scenes, labels = tested(replicate)
    wrong = rng.random(len(labels)) > (1 / 6 if right is None else right)
    predicted = np.where(wrong, (labels + rng.integers(1, 6, len(labels))) % 6, labels)
    record = make_record(identifier, classifier, mix, replicate, right is not None, labels, predicted)
    cell = folder / identifier
    cell.mkdir(parents=True)
    dump(cell / "record.json", record)
    made = {"utc": "2026-01-02T03:04:05+00:00", "seconds": 100.0, "commit": "0123456789ab"}
    made["command"] = f"python experiments/train_classifier.py dataset.root=/home/me/neu classifier={classifier}"
    dump(cell / "manifest.json", {"schema": 1, "kind": "cells", "id": identifier, "made": made})
    if classifier == WITHOUT_PREDICTIONS:
        return
    with (cell / "predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "label", "scene", *(f"logit_{name}" for name in CLASSES)])
        for name, label, scene, answer in zip(names, labels, scenes, predicted, strict=True):
            writer.writerow([name, CLASSES[label], scene, *(2 if k == answer else -1 for k in range(6))])


def make_record(
    identifier: str, classifier: str, mix: str, replicate: int, trained: bool, labels: np.ndarray, predicted: np.ndarray
) -> dict[str, Any]:
    confusion = np.zeros((6, 6), int)
    np.add.at(confusion, (labels, predicted), 1)
    hits = confusion.diagonal()
    precision = hits / np.maximum(confusion.sum(0), 1)
    recall = hits / confusion.sum(1)
    f1 = 2 * hits / (confusion.sum(0) + confusion.sum(1))
    mean_pr = (precision + recall) / 2
    overall = {"accuracy": hits.sum() / len(labels), "balanced_accuracy": recall.mean(), "macro_f1": f1.mean()}
    overall |= {"precision": precision.mean(), "recall": recall.mean(), "mean_pr": mean_pr.mean(), "ece": 0.05}
    per_class = {"precision": precision, "recall": recall, "mean_pr": mean_pr, "f1": f1}
    share, synthetic = SHARES[mix], mix not in ("org100", "classical", "oversampled", "real_extra")
    real = 0 if mix == "org0" else 120
    return {
        "schema": 1,
        "id": identifier,
        "recipe": 1,
        "dataset": "neu_cls",
        "split": "grouped",
        "scale": "cpu",
        "schedules": ["fixed_steps", "paper"] if mix == "org20" else ["fixed_steps"],
        "gan": "edcgan" if synthetic else "none",
        "mix": mix,
        "synthetic_share": share,
        "augment": "none",
        "real_per_class": None,
        "classifier": classifier,
        **dict.fromkeys(("replicate", "split_seed", "gan_seed", "train_seed"), replicate),
        "ids": {
            "dataset": "da7ada7ada7a",
            "split": f"5b{replicate:010x}",
            "gan": f"6a{replicate:010x}" if synthetic else None,
            "bank": f"ba{replicate:010x}" if synthetic else None,
            "initial": f"1a{replicate:010x}",
        },
        "config": {"classifier": {"name": classifier}, "optimizer": {"lr": 0.03}, "dataset": {"name": "neu_cls"}},
        "classes": CLASSES,
        "counts": {
            "real": real,
            "synthetic": 762 if mix == "org0" else round(real * share / (1 - share)),
            "validation": 20,
            "test": len(labels),
            "test_overlapping_share": 0.0,
        },
        "updates": {"initial": 200, "retrain": 400},
        "metrics": {name: round(float(value), 8) for name, value in overall.items()},
        "per_class": {name: [round(float(value), 8) for value in values] for name, values in per_class.items()},
        "confusion": confusion.tolist(),
        "validation": None,
        "train_accuracy": 0.99 if trained else 0.2,
        "trained": trained,
        "cost": {"seconds": 90.0, "seconds_initial": 36.0, "images_per_second": 300.0, "parameters": 1000},
        "environment": {
            "commit": "0123456789ab",
            "command": "python experiments/train_classifier.py -m experiment=table3 dataset.root=/home/me/neu",
            "device": "cpu",
            "machine": "a processor, 2 cores",
            "precision": "bf16-mixed",
            "python": "3.11.7",
            "torch": "2.14.1",
        },
    }


def dump(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
