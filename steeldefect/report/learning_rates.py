"""The learning rate of each classifier, chosen by validation accuracy on trials (protocol, "Updates" and "Replicates")."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from steeldefect.report.arms import DEVELOPMENT
from steeldefect.report.collect import Record
from steeldefect.report.tables import number, to_csv
from steeldefect.runs.errors import UserError, require
from steeldefect.runs.portable import without_path, without_paths
from steeldefect.runs.store import MANIFEST, read_json

TRIALS = "trials.jsonl"
# fmt: off
COLUMNS = (
    "dataset", "split", "scale", "classifier", "lr", "mean", "lowest", "highest", "n_runs", "n_trained", "replicates",
    "chosen",
)
# fmt: on
Where = tuple[str, str, str, str]  # dataset, split, scale, classifier


class Rate(NamedTuple):
    """What one learning rate gave: validation accuracies in [0, 1] by replicate, and how many runs were trained."""

    lr: float
    accuracies: dict[int, float]
    trained: int

    @property
    def mean(self) -> float:
        return sum(self.accuracies.values()) / len(self.accuracies)


def read_trials(*sources: Path) -> list[Record]:
    """Trials of each source (finished ones under trials/, else those of its trials.jsonl), each id once: on org100 with
    every real image and no augmentation; `UserError` if there is none."""
    unique = {record["id"]: record for source in reversed(sources) for record in _trials(source)}
    plain = {"mix": "org100", "augment": "none", "real_per_class": None, "select": "last"}
    chosen = [record for record in unique.values() if all(record[key] == value for key, value in plain.items())]
    told = ", ".join(map(str, sources))
    require(bool(chosen), f"source={told}: no trial on org100 under trials/; make them with `make choose-lr`")
    for record in chosen:
        if record["replicate"] < DEVELOPMENT:
            raise UserError(
                f"trial {record['id']}: replicate {record['replicate']} belongs to the studies; learning rates are "
                f"chosen on development replicates, from {DEVELOPMENT} on"
            )
        require("metrics" not in record, f"trial {record['id']} has figures of the test part; nothing is chosen there")
    return chosen


def _trials(source: Path) -> list[Record]:
    finished = sorted(path.parent for path in (source / "trials").glob(f"[!.]*/{MANIFEST}"))
    if finished or not (source / TRIALS).is_file():
        return [read_json(folder / "record.json") for folder in finished]
    return [json.loads(line) for line in (source / TRIALS).read_text().splitlines()]


def rates(records: Sequence[Record]) -> dict[Where, list[Rate]]:
    """By classifier, in ascending order of the learning rate."""
    found: dict[Where, dict[float, list[Record]]] = {}
    for record in records:
        where = (record["dataset"], record["split"], record["scale"], record["classifier"])
        found.setdefault(where, {}).setdefault(record["config"]["optimizer"]["lr"], []).append(record)
    return {where: [_rate(lr, own) for lr, own in sorted(by_lr.items())] for where, by_lr in sorted(found.items())}


def _rate(lr: float, records: Sequence[Record]) -> Rate:
    accuracies: dict[int, float] = {}
    for record in sorted(records, key=lambda record: record["replicate"]):
        require(
            record["replicate"] not in accuracies,
            f"trial {record['id']}: another one has the same classifier, lr={lr:g} and replicate {record['replicate']}; "
            "give source= a folder of one choice alone",
        )
        accuracies[record["replicate"]] = record["validation"]["accuracy"]
    return Rate(lr, accuracies, sum(record["trained"] for record in records))


def choose(found: Sequence[Rate]) -> Rate:
    """The highest mean validation accuracy, of equals the smallest rate; a rate that lacks a replicate cannot win.

    (A run that diverged leaves no record.)
    """
    replicates = set().union(*(rate.accuracies for rate in found))
    whole = [rate for rate in found if set(rate.accuracies) == replicates]
    require(bool(whole), "no learning rate has every replicate; run `make choose-lr` again to fill in what is missing")
    return max(whole, key=lambda rate: (rate.mean, -rate.lr))


def rows(by_classifier: dict[Where, list[Rate]]) -> list[dict[str, Any]]:
    listed = []
    for where, found in by_classifier.items():
        best = choose(found)
        for rate in found:
            values = rate.accuracies.values()
            figures = {"mean": rate.mean, "lowest": min(values), "highest": max(values)}
            listed.append(
                dict(zip(COLUMNS[:4], where, strict=True))
                | {"lr": f"{rate.lr:g}", **{key: number(value, 1, 6) for key, value in figures.items()}}
                | {"n_runs": len(values), "n_trained": rate.trained}
                | {"replicates": " ".join(map(str, rate.accuracies)), "chosen": str(rate is best).lower()}
            )
    return listed


def write(records: Sequence[Record], output: Path) -> dict[Where, float]:
    """`summary.csv`, `README.md` and `trials.jsonl`, a line a trial; the chosen rates."""
    by_classifier = rates(records)
    listed = rows(by_classifier)
    output.mkdir(parents=True, exist_ok=True)
    lines = sorted(json.dumps(without_paths(record), sort_keys=True, allow_nan=False) for record in records)
    _require_kept(records, output)
    (output / TRIALS).write_text("\n".join(lines) + "\n")
    (output / "summary.csv").write_text(to_csv(COLUMNS, listed))
    (output / "README.md").write_text(_readme(records, listed))
    return {where: choose(found).lr for where, found in by_classifier.items()}


def _require_kept(records: Sequence[Record], output: Path) -> None:
    """`UserError` where `output` has trials that would be lost."""
    committed = output / TRIALS
    if not committed.exists():
        return
    there = {json.loads(line)["id"] for line in committed.read_text().splitlines()}
    lost = sorted(there - {record["id"] for record in records})
    require(
        not lost,
        lambda: (
            f"output={output}: holds {len(lost)} trials that source= does not have ({lost[0]}, ...); name it too, "
            f"source=[{output},...] (make choose-lr SOURCE={output}), or give another output="
        ),
    )


def _readme(records: Sequence[Record], listed: Sequence[dict[str, Any]]) -> str:
    shown = ("classifier", "lr", "mean", "lowest", "highest", "n_runs", "n_trained")
    lines = [
        "# Learning rates\n",
        "Chosen once a classifier on development replicates, by the mean accuracy on the validation part, on org100; of "
        "equals the smaller. The test part was not read: these records hold no figure of it. The chosen rates are frozen "
        "in `conf/scale/`; each is in **bold**. A rate with fewer runs than the others has diverged or is missing.\n",
    ]
    for group in dict.fromkeys(tuple(row[key] for key in COLUMNS[:3]) for row in listed):
        lines += ["dataset={} split={} scale={}, accuracies as fractions:\n".format(*group)]
        lines += [f"| {' | '.join(shown)} |", f"|{' --- |' * len(shown)}"]
        for row in listed:
            if tuple(row[key] for key in COLUMNS[:3]) == group:
                values = [str(row[key]) for key in shown]
                if row["chosen"] == "true":
                    values = [f"**{value}**" for value in values]
                lines.append(f"| {' | '.join(values)} |")
        lines.append("")
    environments = [record["environment"] for record in records]
    seconds = sum(record["cost"]["seconds"] for record in records)
    lines += [
        f"- {len(records)} trials, {seconds / 3600:.2f} hours of phase `retrain`.",
        f"- Commits: {', '.join(sorted({str(e['commit']) for e in environments}))}; "
        f"machines: {'; '.join(sorted({str(e['machine']) for e in environments}))}.",
        *(f"- `{command}`" for command in sorted({without_path(str(e["command"])) for e in environments})),
    ]
    return "\n".join(lines) + "\n"
