"""The choice of learning rates, from records of trials."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from steeldefect.report.learning_rates import read_trials, write
from steeldefect.runs.errors import UserError

# by learning rate: validation accuracy of replicates 102, 103, 104; the run of 0.1 on 104 has diverged
ACCURACIES = {0.001: (0.5, 0.6, 0.7), 0.01: (0.9, 0.8, 0.7), 0.03: (0.7, 0.8, 0.9), 0.1: (0.99, 0.99)}


def trial(lr: float, replicate: int, accuracy: float, **more: Any) -> dict[str, Any]:
    return {
        "id": f"{lr:g}-{replicate}",
        "dataset": "neu_cls",
        "split": "grouped_cv",
        "scale": "cpu",
        "mix": "org100",
        "augment": "none",
        "select": "last",
        "real_per_class": None,
        "classifier": "small_cnn",
        "replicate": replicate,
        "config": {"optimizer": {"lr": lr}},
        "validation": {"accuracy": accuracy},
        "trained": lr > 0.001,
        "cost": {"seconds": 36.0},
        "environment": {"commit": "abc", "machine": "one core", "command": "python experiments/train_classifier.py"},
    } | more


def put(source: Path, record: dict[str, Any]) -> None:
    folder = source / "trials" / record["id"]
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(json.dumps(record))
    (folder / "manifest.json").write_text("{}")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for lr, accuracies in ACCURACIES.items():
        for replicate, accuracy in zip((102, 103, 104), accuracies, strict=False):
            put(tmp_path / "artifacts", trial(lr, replicate, accuracy))
    return tmp_path / "artifacts"


def test_the_best_mean_wins_of_equals_the_smaller_and_none_that_lacks_a_run(source: Path, tmp_path: Path) -> None:
    chosen = write(read_trials(source), tmp_path / "out")
    assert chosen == {("neu_cls", "grouped_cv", "cpu", "small_cnn"): 0.01}
    with (tmp_path / "out" / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["lr"], row["chosen"], row["n_runs"]) for row in rows] == [
        *(("0.001", "false", "3"), ("0.01", "true", "3"), ("0.03", "false", "3"), ("0.1", "false", "2"))
    ]
    assert rows[1] | {"mean": "0.8", "lowest": "0.7", "highest": "0.9", "replicates": "102 103 104"} == rows[1]
    assert rows[0]["n_trained"] == "0" and rows[1]["n_trained"] == "3"
    text = (tmp_path / "out" / "README.md").read_text()
    assert "| **small_cnn** | **0.01** | **0.8** |" in text and "0.11 hours" in text


def test_a_classifier_chosen_later_joins_what_is_committed(source: Path, tmp_path: Path) -> None:
    """trials.jsonl holds all that the choice needs, so that of another machine goes in beside it."""
    first = tmp_path / "first"
    write(read_trials(source), first)
    alone = (first / "summary.csv").read_text()
    write(read_trials(first), first)
    assert (first / "summary.csv").read_text() == alone
    for replicate in (102, 103, 104):
        put(tmp_path / "more", trial(0.03, replicate, 0.9, id=f"other-{replicate}", classifier="resnet19"))
    chosen = write(read_trials(tmp_path / "more", first), tmp_path / "both")
    assert {where[-1]: lr for where, lr in chosen.items()} == {"small_cnn": 0.01, "resnet19": 0.03}
    assert len((tmp_path / "both" / "trials.jsonl").read_text().splitlines()) == 14


def test_committed_trials_are_not_lost(source: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    write(read_trials(source), first)
    before = (first / "trials.jsonl").read_text()
    for replicate in (102, 103, 104):
        put(tmp_path / "more", trial(0.03, replicate, 0.9, id=f"other-{replicate}", classifier="resnet19"))
    with pytest.raises(UserError, match=r"holds 11 trials that source= does not have .* SOURCE="):
        write(read_trials(tmp_path / "more"), first)
    assert (first / "trials.jsonl").read_text() == before
    write(read_trials(tmp_path / "more", first), first)
    assert len((first / "trials.jsonl").read_text().splitlines()) == 14


def test_other_arms_are_not_looked_at(source: Path) -> None:
    put(source, trial(0.5, 102, 1.0, id="other", augment="classical"))
    assert len(read_trials(source)) == 11


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"replicate": 5}, "replicate 5 belongs to the studies"),
        ({"metrics": {"accuracy": 1.0}}, "has figures of the test part"),
    ],
)
def test_nothing_is_chosen_on_studies_or_on_test(source: Path, more: dict[str, Any], message: str) -> None:
    put(source, trial(0.5, 105, 1.0, id="bad") | more)
    with pytest.raises(UserError, match=message):
        read_trials(source)


def test_no_trial_and_two_of_one_kind(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no trial on org100"):
        read_trials(tmp_path)
    put(source, trial(0.01, 102, 0.9, id="again"))
    with pytest.raises(UserError, match=r"another one has the same classifier, lr=0\.01 and replicate 102"):
        write(read_trials(source), tmp_path / "out")
