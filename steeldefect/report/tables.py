"""Tables 2 and 3 beside the paper's, and the long-format summary."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from rich import box
from rich.table import Table as RichTable

from steeldefect.report.arms import Arm, Arms, Group, Missing, mean_of_runs
from steeldefect.report.statistics import Estimate, estimate

BASELINE = "org100"
UNIFORM = "-uniform"  # behind the name of a mix that fills up the smaller classes
_OTHERS = ("classical", "oversampled", "shuffled")
# protocol, "Controls": what every arm is compared with
CONTROLS: tuple[str, ...] = (BASELINE, *_OTHERS, *(arm + UNIFORM for arm in _OTHERS))
TITLES = {"mean_pr": "AP (paper)", "accuracy": "accuracy"}
TITLES |= {"balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1"}
# paper: Table 2 and 3, the column order; other data sets keep their own
PAPER_ORDER = ("scratches", "rolled-in_scale", "patches", "pitted_surface", "inclusion", "crazing")
OVERALL = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "precision",
    "recall",
    "mean_pr",
    "ece",
    "accuracy_overlapping",
    "accuracy_clean",
)
PER_CLASS = ("precision", "recall", "mean_pr")
CONTRASTS = ("accuracy", "balanced_accuracy", "macro_f1", "mean_pr")
GROUP = ("dataset", "split", "scale", "schedule", "gan", "augment", "real_per_class")
# fmt: off
SUMMARY = (
    "study", "dataset", "split", "scale", "schedule", "gan", "mix", "augment", "real_per_class", "classifier", "class",
    "metric", "mean", "low", "high", "n_runs", "n_images", "n_scenes", "trained",
)
LONG = (
    *GROUP, "metric", "row", "column", "ours_percent", "low_percent", "high_percent", "n_runs", "n_not_trained",
    "n_missing", "status", "interval", "paper_percent",
)
# fmt: on


@dataclass(frozen=True)
class Entry:
    """One figure of a table: ours (or why there is none; None: not asked for) and the paper's, in percent if printed."""

    ours: Estimate | Missing | None
    paper: str = ""
    signed: bool = False
    not_trained: int = 0
    absent: int = 0
    of: tuple[tuple[str, str], ...] = ()  # classifier and mix of the arms behind it, its own first
    records: tuple[str, ...] = ()  # the ids of their cells

    def text(self, gap: str = " ") -> str:
        """`97.4 [96.1, 98.2] n=3`, with what the grid holds beyond those runs."""
        if self.ours is None:
            return ""
        if isinstance(self.ours, Missing):
            return self.ours.why + (f" ({self.ours.which})" if self.ours.which else "")
        found, sign = self.ours, "+" if self.signed else ""
        mean, low, high = (
            None if value is None else f"{round(100 * value, 1) + 0.0:{sign}.1f}"  # + 0.0: no minus zero
            for value in (found.mean, found.low, found.high)
        )
        parts = [f"{mean}", *([f"[{low}, {high}]"] if low else [])]
        short = [f"{self.not_trained} not trained"] if self.not_trained else []
        short += [f"{self.absent} missing"] if self.absent else []
        return gap.join([*parts, f"n={found.n_runs}", *([f"({', '.join(short)})"] if short else [])])


@dataclass(frozen=True)
class Table:
    title: str
    metric: str
    group: Group
    corner: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Entry, ...]], ...]

    @property
    def heading(self) -> str:
        """What all cells of the table share."""
        return self.group.title

    @property
    def paper_label(self) -> str:
        return "paper" if self.group.dataset == "neu_cls" else "paper (NEU-CLS)"

    def lines(self, gap: str = " ") -> Iterable[tuple[str, ...]]:
        """Ours, and below it the paper's where it has the row."""
        for name, entries in self.rows:
            yield (name, "ours", *(entry.text(gap) for entry in entries))
            if any(entry.paper for entry in entries):
                yield ("", self.paper_label, *(entry.paper for entry in entries))

    def markdown(self) -> str:
        head = (self.corner, "", *self.columns)
        lines = [head, ("---",) * len(head), *self.lines()]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def rich(self) -> RichTable:
        table = RichTable(title=self.title, caption=self.heading, box=box.SIMPLE_HEAD, padding=(0, 1))
        table.add_column(self.corner)
        table.add_column("")
        for column in self.columns:
            table.add_column(column, justify="right", overflow="fold")
        for line in self.lines("\n"):
            table.add_row(*line, style="dim" if line[1] != "ours" else None)
        return table

    def long(self) -> Iterable[dict[str, Any]]:
        """One row a figure, in percent; `row` and `column` as printed."""
        shared = group_columns(self.group) | {"metric": self.metric}
        for name, entries in self.rows:
            for column, entry in zip(self.columns, entries, strict=True):
                row = shared | {"row": name, "column": column, "paper_percent": entry.paper}
                row |= {"n_not_trained": entry.not_trained, "n_missing": entry.absent}
                found = entry.ours
                if found is None:
                    continue
                if isinstance(found, Missing):
                    yield row | {"n_runs": 0, "status": found.why}
                    continue
                figures = {"ours": found.mean, "low": found.low, "high": found.high}
                row |= {f"{key}_percent": number(value, 100, 4) for key, value in figures.items()}
                yield row | {"n_runs": found.n_runs, "status": "trained", "interval": found.method}


def capital(metric: str) -> str:
    """Its title as a sentence begins with it."""
    return TITLES[metric][0].upper() + TITLES[metric][1:]


def table2(arms: Arms, mixes: Sequence[str], classifier: str = "mobilenet_v2") -> Table:
    """Mixes by classes, AP (paper) of one classifier (paper: Table 2, MobileNet V2), with the mean over classes."""
    classes = [name for name in PAPER_ORDER if name in arms.classes]
    classes += [name for name in arms.classes if name not in classes]
    printed = paper_table("table2") if classifier == "mobilenet_v2" else {}
    rows = []
    for mix in mixes:
        theirs = printed.get(mix, {})
        paper = [theirs.get(name, "") for name in classes]
        mean = f"{np.mean([float(theirs[name]) for name in PAPER_ORDER]):.2f}" if theirs else ""
        of_class = [arms.estimate(classifier, mix, "mean_pr", arms.classes.index(name)) for name in classes]
        ours = [*of_class, arms.estimate(classifier, mix, "mean_pr")]
        pairs = zip(ours, [*paper, mean], strict=True)
        rows.append((mix, tuple(entry(arms, [(classifier, mix)], found, theirs) for found, theirs in pairs)))
    title = f"Table 2: {TITLES['mean_pr']} of each class by mix, {classifier}, percent"
    return Table(title, "mean_pr", arms.group, "mix", (*classes, "mean"), tuple(rows))


def table3(arms: Arms, classifiers: Sequence[str], mixes: Sequence[str], metric: str = "mean_pr") -> Table:
    """Classifiers by mixes, the mean over classes (paper: Table 3), with each mix less org100, paired by replicate."""
    printed = paper_table("table3") if metric == "mean_pr" else {}
    others = [mix for mix in mixes if mix != BASELINE]
    rows = []
    for classifier in classifiers:
        theirs = printed.get(classifier, {})
        entries = [
            entry(arms, [(classifier, mix)], arms.estimate(classifier, mix, metric), theirs.get(mix, ""))
            for mix in mixes
        ]
        for mix in others:
            found = arms.difference(classifier, mix, BASELINE, metric)
            of = [(classifier, mix), (classifier, BASELINE)]
            entries.append(entry(arms, of, found, _paper_difference(theirs, mix)))
        rows.append((classifier, tuple(entries)))
    rows += _mean_row(arms, classifiers, mixes, metric, printed)
    columns = (*mixes, *(f"{mix} - {BASELINE}" for mix in others))
    title = f"Table 3: {TITLES[metric]}{', mean over classes' if metric == 'mean_pr' else ''}, percent"
    return Table(title, metric, arms.group, "classifier", columns, tuple(rows))


def entry(arms: Arms, of: Sequence[tuple[str, str]], found: Estimate | Missing, paper: str = "") -> Entry:
    """The figure of one arm (classifier, mix), or of the difference of two, with what its grid lacks."""
    return Entry(found, paper, len(of) > 1, *shortfall(arms, of), tuple(of), records_of(arms, of))


def records_of(arms: Arms, of: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Ids of the cells of these arms, classifier and mix, trained or not."""
    return tuple(r["id"] for pair in of for r in arms.records if (r["classifier"], r["mix"]) == pair)


def shortfall(arms: Arms, of: Sequence[tuple[str, str]]) -> tuple[int, int]:
    """Replicates of the grid that did not train in any of these arms, and those that are missing in one."""
    return lacking([arms.arm(classifier, mix) for classifier, mix in of])


def lacking(arms: Sequence[Arm]) -> tuple[int, int]:
    """Replicates that did not train in any of these arms, and those that are missing in one."""
    failed = {replicate for arm in arms for replicate in arm.failed}
    return len(failed), len({replicate for arm in arms for replicate in arm.absent} - failed)


def _paper_difference(theirs: Mapping[str, str], mix: str) -> str:
    return f"{float(theirs[mix]) - float(theirs[BASELINE]):+.2f}" if mix in theirs and BASELINE in theirs else ""


def _mean_row(
    arms: Arms, classifiers: Sequence[str], mixes: Sequence[str], metric: str, printed: Mapping[str, Mapping[str, str]]
) -> list[tuple[str, tuple[Entry, ...]]]:
    """The mean over the classifiers that have every mix, within the replicates that all of these share."""
    if len(classifiers) < 2:
        return []
    whole = [c for c in classifiers if all(arms.runs(c, mix, metric) for mix in mixes)]
    means = {mix: mean_of_runs([arms.runs(c, mix, metric) for c in whole]) for mix in mixes}
    if len(whole) < 2 or not all(means.values()):
        empty = Entry(_why_no_mean(arms, classifiers, mixes, whole))
        return [("mean", (empty,) * (2 * len(mixes) - (BASELINE in mixes)))]
    others = [mix for mix in mixes if mix != BASELINE]
    theirs = (
        {mix: f"{np.mean([float(printed[c][mix]) for c in whole]):.2f}" for mix in mixes}
        if all(mix in printed.get(c, {}) for c in whole for mix in mixes)
        else {}
    )
    behind = {mix: records_of(arms, [(c, mix) for c in whole]) for mix in [*mixes, BASELINE]}
    entries = [Entry(estimate(list(means[mix].values())), theirs.get(mix, ""), records=behind[mix]) for mix in mixes]
    for mix in others:
        paired = mean_of_runs([arms.differences(c, mix, BASELINE, metric) for c in whole])
        found = estimate(list(paired.values()), fraction=False) if paired else Missing("missing")
        entries.append(Entry(found, _paper_difference(theirs, mix), True, records=behind[mix] + behind[BASELINE]))
    return [(f"mean of {len(whole)}" if len(whole) < len(classifiers) else "mean", tuple(entries))]


def _why_no_mean(arms: Arms, classifiers: Sequence[str], mixes: Sequence[str], whole: Sequence[str]) -> Missing:
    """`not trained` with the classifiers that lack a mix for that reason alone; else `missing` with those that do."""
    reasons = {
        c: {arms.arm(c, mix).why_empty.why for mix in mixes if not arms.arm(c, mix).trained} for c in classifiers
    }
    for why in ("missing", "not trained"):
        which = [c for c in classifiers if why in reasons[c]]
        if which:
            return Missing(why, ", ".join(which))
    return Missing("missing")


def paper_table(name: str) -> dict[str, dict[str, str]]:
    """The paper's Table 2 or 3 by the first column, figures as printed, in percent."""
    text = resources.files("steeldefect.report").joinpath("paper", f"{name}.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    key = next(iter(rows[0]))
    return {row[key]: row for row in rows}


def group_columns(group: Group) -> dict[str, Any]:
    real = "all" if group.real_per_class is None else group.real_per_class
    return group._asdict() | {"real_per_class": real}


def summary(study: str, tables: Sequence[Arms]) -> list[dict[str, Any]]:
    """Long format, one figure a row, fractions in [0, 1]; an arm without a bank stands once, under gan `none`."""
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for arms in tables:
        for classifier in arms.classifiers:
            for mix in arms.mixes:
                for row in _arm_rows(study, arms, classifier, mix):
                    rows.setdefault(tuple(row[key] for key in SUMMARY[:12]), row)
    return list(rows.values())


def _arm_rows(study: str, arms: Arms, classifier: str, mix: str) -> Iterable[dict[str, Any]]:
    records = [r for r in arms.records if (r["classifier"], r["mix"]) == (classifier, mix)]
    arm = arms.arm(classifier, mix)
    if not arm.cells:
        return
    shared = {
        "study": study,
        **group_columns(arms.group),
        "gan": records[0]["gan"],
        "mix": mix,
        "classifier": classifier,
    }
    shared |= sizes(arms, list(arm.trained.values())) | {"trained": str(bool(arm.trained)).lower()}
    present = [metric for metric in OVERALL if any(metric in record["metrics"] for record in records)]
    wanted: list[tuple[str, int | None, str]] = [(metric, None, "") for metric in present]
    wanted += [(metric, index, "") for index in range(len(arms.classes)) for metric in PER_CLASS]
    paired = {}
    for other in CONTROLS:
        paired[other] = sizes(
            arms, [r for replicate, r in arm.trained.items() if replicate in arms.arm(classifier, other).trained]
        )
        if contrasted(mix, other) and arms.arm(classifier, other).trained:
            wanted += [(metric, None, other) for metric in CONTRASTS if metric in present]
            wanted += [("mean_pr", index, other) for index in range(len(arms.classes))]
    for metric, index, other in wanted:
        row = shared | {"class": "all" if index is None else arms.classes[index]}
        if other:
            found = arms.difference(classifier, mix, other, metric, index)
            row |= paired[other]
        else:
            found = arms.estimate(classifier, mix, metric, index)
        row |= {"metric": f"{metric}_minus_{other}" if other else metric}
        if isinstance(found, Missing):
            yield row | {"n_runs": 0}
        else:
            figures = {"mean": found.mean, "low": found.low, "high": found.high}
            yield row | {key: number(value, 1, 6) for key, value in figures.items()} | {"n_runs": found.n_runs}


def contrasted(mix: str, control: str) -> bool:
    """Whether a mix is compared with a control: with those later in the list than itself it is not.

    The negative control `shuffled` says something of the mix alone whose labels it lost. A control of the balance of the
    real images is none of a mix that fills up the smaller classes, nor the other way round.
    """
    if control != BASELINE and mix.endswith(UNIFORM) != control.endswith(UNIFORM):
        return False
    if control.startswith("shuffled"):
        return mix.removesuffix(UNIFORM) == "org20"
    return mix not in CONTROLS[: CONTROLS.index(control) + 1]


def sizes(arms: Arms, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Distinct test images and scenes; the counts of one run where no predictions are at hand."""
    tested = [arms.tested[record["id"]] for record in records if record["id"] in arms.tested]
    if not tested:
        return {"n_images": max((record["counts"].get("test", 0) for record in records), default=0), "n_scenes": ""}
    scenes = np.unique(np.concatenate([part.scene for part in tested]))
    images = np.unique(np.concatenate([part.image for part in tested]))
    return {"n_images": len(images), "n_scenes": "" if (scenes < 0).any() else len(scenes)}


def number(value: float | None, factor: float, digits: int) -> str:
    """Written without trailing zeros and without minus zero."""
    return "" if value is None else f"{round(factor * value, digits) + 0.0:.{digits}f}".rstrip("0").rstrip(".")


def to_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: row.get(key, "") for key in columns} for row in rows)
    return text.getvalue()
