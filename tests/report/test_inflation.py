"""Invented runs whose inflation is known."""

import csv
from pathlib import Path

import numpy as np
import pytest

from steeldefect.report.collect import Collection
from steeldefect.report.inflation import Inflation, write_inflation
from steeldefect.report.provenance import KEPT
from steeldefect.report.statistics import Answers
from steeldefect.runs.errors import UserError
from tests.report.make_fixture import CLASSES, make_record


def cell(split: str, classifier: str, replicate: int, trained: bool = True) -> tuple[dict, Answers]:
    """120 test images; under split=random 80 overlap and are all right, of the 40 clean ones 10 + replicate are wrong.

    Under split=grouped all are clean, and 30 + replicate are wrong.
    """
    leaking = split == "random"
    labels = np.arange(120) % 6
    overlaps = np.where(np.arange(120) < 80, int(leaking), 0)
    wrong = np.zeros(120, bool)
    wrong[80 : 90 + replicate] = leaking
    wrong[: 30 + replicate] |= not leaking
    predicted = np.where(wrong, (labels + 1) % 6, labels)
    record = make_record(
        f"{split}-{classifier}-{replicate}", classifier, "org100", replicate, trained, labels, predicted
    )
    accuracies = {"accuracy_overlapping": 1.0} if leaking else {}
    clean = (~wrong)[overlaps == 0].mean()
    record |= {"split": split, "metrics": record["metrics"] | accuracies | {"accuracy_clean": float(clean)}}
    record["ids"] = record["ids"] | {"split": f"{split}{replicate}"}
    names = np.array([f"{CLASSES[label]}_{k:03d}" for k, label in enumerate(labels)])
    return record, Answers(names, np.arange(120) // 2, labels, predicted, overlaps)


def collection(*cells: tuple[dict, Answers]) -> Collection:
    return Collection([record for record, _ in cells], {record["id"]: tested for record, tested in cells})


@pytest.fixture
def study() -> Collection:
    return collection(
        *(cell(s, c, r) for s in ("random", "grouped") for c in ("small_cnn", "resnet18") for r in (0, 1, 2))
    )


def figures(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    with path.open() as file:
        return {(r["split"], r["metric"]): r for r in csv.DictReader(file) if r["classifier"] == "small_cnn"}


def test_the_inflation_is_the_difference_of_the_two_splits(study: Collection, tmp_path: Path) -> None:
    table = write_inflation(study, tmp_path, None)
    rows = figures(tmp_path / "summary.csv")
    assert float(rows["random", "accuracy"]["mean"]) == pytest.approx(1 - 11 / 120, abs=1e-6)
    assert float(rows["grouped", "accuracy"]["mean"]) == pytest.approx(1 - 31 / 120, abs=1e-6)
    assert float(rows["grouped", "accuracy_clean"]["mean"]) == pytest.approx(1 - 31 / 120, abs=1e-6)
    inflated = rows["random", "accuracy_minus_grouped"]
    assert float(inflated["mean"]) == pytest.approx(20 / 120, abs=1e-6)
    assert float(inflated["low"]) < 20 / 120 < float(inflated["high"]) and inflated["n_runs"] == "3"
    inside = rows["random", "accuracy_overlapping_minus_clean"]
    assert float(inside["mean"]) == pytest.approx(11 / 40, abs=1e-6)
    assert [name for name, _ in table.rows] == ["resnet18", "small_cnn", "mean"]
    assert table.rows[2][1][5].ours.mean == pytest.approx(20 / 120)
    assert (tmp_path / "figures" / "inflation.svg").stat().st_size > 5000


def test_both_test_parts_enter_the_interval(study: Collection) -> None:
    """A scene that moves only one of the splits widens the interval of the difference all the same."""
    one = Inflation(study).runs("small_cnn", "accuracy_minus_grouped", "random")[0]
    assert one.terms is not None and len(one.terms) == 240 and one.terms.sum() == pytest.approx(0, abs=1e-12)


def test_what_is_missing_or_did_not_train_is_said(study: Collection, tmp_path: Path) -> None:
    kept = [r for r in study.records if r["id"] != "random-small_cnn-2"]
    lost, _ = cell("grouped", "resnet18", 1, trained=False)
    kept = [lost if r["id"] == lost["id"] else r for r in kept]
    table = write_inflation(Collection(kept, study.tested), tmp_path, [0, 1, 2, 3])
    shown = {name: entries[5].text() for name, entries in table.rows}
    assert shown["small_cnn"].endswith("n=2 (2 missing)")
    assert shown["resnet18"].endswith("n=2 (1 not trained, 1 missing)")


def test_records_that_are_no_such_study_are_refused(study: Collection, tmp_path: Path) -> None:
    only = Collection([r for r in study.records if r["split"] == "grouped"], study.tested)
    with pytest.raises(UserError, match="no cell of split=random"):
        write_inflation(only, tmp_path, None)
    other = [r | {"dataset": "rendered"} if r["replicate"] == 2 else r for r in study.records]
    with pytest.raises(UserError, match="of 2 data sets"):
        write_inflation(Collection(other, study.tested), tmp_path, None)
    write_inflation(Collection(other, study.tested), tmp_path, None, {"dataset": "neu_cls"})


def test_words_below_the_marker_stay(study: Collection, tmp_path: Path) -> None:
    write_inflation(study, tmp_path, None)
    readme = tmp_path / "README.md"
    readme.write_text(readme.read_text() + "by hand\n")
    write_inflation(study, tmp_path, None)
    assert readme.read_text().count(KEPT) == 1 and readme.read_text().endswith("by hand\n")
    assert "small_cnn +16.7 points, 95 % interval" in readme.read_text()
