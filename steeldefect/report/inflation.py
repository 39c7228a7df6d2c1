"""How much a random split inflates accuracy: org100 under split=random beside split=grouped."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from steeldefect.report.arms import Arms, Group, Missing, mean_of_runs, require_one_kind, study_records
from steeldefect.report.collect import Collection, write_committed
from steeldefect.report.figures import COLOURS, MARKERS, STYLE, save
from steeldefect.report.provenance import cells_table, in_points, provenance, write_kept
from steeldefect.report.repeats import require_pooled
from steeldefect.report.statistics import Estimate, Run, difference, estimate, unpaired
from steeldefect.report.tables import BASELINE, LONG, SUMMARY, Entry, Table, group_columns, number, sizes, to_csv
from steeldefect.runs.errors import UserError

STUDY = "inflation"
LEAKING, CLEAN = "random", "grouped"
# column, metric of the summary, the split whose row it is
COLUMNS = (
    ("random: all", "accuracy", LEAKING),
    ("random: overlapping", "accuracy_overlapping", LEAKING),
    ("random: clean", "accuracy_clean", LEAKING),
    ("grouped: all", "accuracy", CLEAN),
    ("overlapping - clean", "accuracy_overlapping_minus_clean", LEAKING),
    ("random - grouped", f"accuracy_minus_{CLEAN}", LEAKING),
)
NOTE = """\
Accuracy in percent on org100, mean over the trained runs (replicates), [95 % interval], n = runs. *overlapping*: test
images whose scene has training images too; *clean*: the others. Under split=grouped all test images are clean. Intervals:
two-way clustered by scene and run; *random - grouped* pairs the runs by replicate, their test images are different ones.
The clean images of a random split are mostly those that share their surface with no other image at all, which may be
harder or easier than the rest: *random - grouped* is the inflation, *overlapping - clean* shows where it sits.
"""


class Inflation:
    """The two splits of one data set at one scale."""

    def __init__(self, collection: Collection, replicates: Sequence[int] | None = None) -> None:
        """`UserError` where the records hold another number of data sets and scales than one, or lack a split."""
        kept = [
            r for r in collection.records if (r["mix"], r["augment"], r["real_per_class"]) == (BASELINE, "none", None)
        ]
        kinds = {(r["dataset"], r["scale"], r["schedules"][0]) for r in kept if r["split"] in (LEAKING, CLEAN)}
        if len(kinds) != 1:
            raise UserError(
                f"study={STUDY}: the cells of {BASELINE} are of {len(kinds)} data sets, scales and schedules "
                f"{sorted(kinds)}, must be of one; choose with where, such as 'where={{dataset: neu_cls}}'"
            )
        dataset, scale, schedule = kinds.pop()
        for split in (LEAKING, CLEAN):
            if not any(record["split"] == split for record in kept):
                raise UserError(f"study={STUDY}: no cell of split={split}; run make inflation first")
        self.collection = Collection(
            [r for r in kept if r["split"] in (LEAKING, CLEAN)], collection.tested, collection.skipped
        )
        self.group = Group(dataset, LEAKING, scale, schedule, "none", "none", None)
        replicates = replicates or sorted({record["replicate"] for record in self.collection.records})
        self.arms = {
            split: Arms(self.collection, self.group._replace(split=split), replicates) for split in (LEAKING, CLEAN)
        }
        require_one_kind(self.collection.records, f"study={STUDY}")
        # both sides together: a network that was trained otherwise on one of them would pass for a leak
        require_pooled([record for arms in self.arms.values() for record in arms.records])
        self.classifiers = sorted({record["classifier"] for record in self.collection.records})

    def runs(self, classifier: str, metric: str, split: str) -> dict[int, Run]:
        """By replicate; the metrics are those of COLUMNS."""
        first, _, other = metric.partition("_minus_")
        own = self.arms[split].runs(classifier, BASELINE, first)
        if not other:
            return own
        if other == CLEAN:
            clean = self.arms[CLEAN].runs(classifier, BASELINE, first)
            return {r: unpaired(own[r], clean[r]) for r in sorted(set(own) & set(clean))}
        clean = self.arms[split].runs(classifier, BASELINE, f"accuracy_{other}")
        return {r: difference(own[r], clean[r]) for r in sorted(set(own) & set(clean))}

    def found(self, runs: Mapping[int, Run], metric: str) -> Estimate | Missing:
        if not runs:
            return Missing("missing")
        return estimate(list(runs.values()), fraction="_minus_" not in metric, wilson=metric == "accuracy")

    def entry(self, classifier: str, metric: str, split: str) -> Entry:
        arms = [self.arms[split], *([self.arms[CLEAN]] if metric.endswith(f"_minus_{CLEAN}") else [])]
        cells = [own.arm(classifier, BASELINE) for own in arms]
        failed = {replicate for cell in cells for replicate in cell.failed}
        absent = {replicate for cell in cells for replicate in cell.absent} - failed
        found = self.found(self.runs(classifier, metric, split), metric)
        if isinstance(found, Missing) and failed:
            found = Missing("not trained")
        return Entry(found, "", "_minus_" in metric, len(failed), len(absent))

    def table(self) -> Table:
        rows = [(c, tuple(self.entry(c, metric, split) for _, metric, split in COLUMNS)) for c in self.classifiers]
        if len(self.classifiers) > 1:
            means = [
                self.found(mean_of_runs([self.runs(c, metric, split) for c in self.classifiers]), metric)
                for _, metric, split in COLUMNS
            ]
            entries = (Entry(mean, "", "_minus_" in column[1]) for mean, column in zip(means, COLUMNS, strict=True))
            rows.append(("mean", tuple(entries)))
        title = f"Accuracy on {BASELINE} under a leaking and a grouped split, percent"
        group = self.group._replace(split=f"{LEAKING} and {CLEAN}")
        return Table(title, "accuracy", group, "classifier", tuple(name for name, _, _ in COLUMNS), tuple(rows))

    def summary(self) -> list[dict[str, Any]]:
        rows = []
        columns = (*COLUMNS, ("", "accuracy_clean", CLEAN))
        for classifier in self.classifiers:
            for _, metric, split in columns:
                arms = self.arms[split]
                trained = list(arms.arm(classifier, BASELINE).trained.values())
                row = {"study": STUDY, **group_columns(arms.group), "mix": BASELINE, "classifier": classifier}
                row |= sizes(arms, trained) | {"class": "all", "metric": metric, "trained": str(bool(trained)).lower()}
                found = self.found(self.runs(classifier, metric, split), metric)
                if isinstance(found, Estimate):
                    figures = {"mean": found.mean, "low": found.low, "high": found.high}
                    row |= {key: number(value, 1, 6) for key, value in figures.items()} | {"n_runs": found.n_runs}
                rows.append({"n_runs": 0, **row})
        return rows

    def finding(self) -> str:
        """One sentence a classifier."""
        column = COLUMNS[-1][1]
        said = [f"{c} {in_points(self.found(self.runs(c, column, LEAKING), column))}" for c in self.classifiers]
        head = f"Accuracy under split={LEAKING} less that under split={CLEAN}, {self.group.dataset}, scale={self.group.scale}"
        return f"{head}: {'; '.join(said)}."


def write_inflation(
    collection: Collection, output: Path, replicates: Sequence[int] | None, where: Mapping[str, Any] | None = None
) -> Table:
    """README.md, inflation.csv, summary.csv, the figure, records.jsonl and predictions.csv."""
    kept = Collection(study_records(collection.records, where or {}), collection.tested, collection.skipped)
    inflation = Inflation(kept, replicates)
    table, cells = inflation.table(), inflation.collection
    (output / "figures").mkdir(parents=True, exist_ok=True)
    inflation_figure(inflation, output / "figures" / STUDY)
    (output / f"{STUDY}.csv").write_text(to_csv(LONG, table.long()))
    (output / "summary.csv").write_text(to_csv(SUMMARY, inflation.summary()))
    write_committed(cells, output)
    lines = [
        f"# {STUDY}\n",
        inflation.finding() + "\n",
        f"## {table.title}\n\n{table.group.title}\n\n{table.markdown()}\n\n{NOTE}",
        f"![Accuracy by classifier and kind of test image, with intervals](figures/{STUDY}.svg)\n",
        provenance(cells),
        cells_table(cells),
        f"Written by `python experiments/report.py source=DIR output=DIR study={STUDY}`.\n",
    ]
    write_kept(lines, output / "README.md")
    return table


def inflation_figure(inflation: Inflation, path: Path) -> None:
    """A group of points a classifier: random (all, overlapping, clean) and grouped, with intervals."""
    drawn = [column for column in COLUMNS if "_minus_" not in column[1]]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        panel = figure.subplots()
        for number_, (name, metric, split) in enumerate(drawn):
            points = []
            for place, classifier in enumerate(inflation.classifiers):
                found = inflation.found(inflation.runs(classifier, metric, split), metric)
                if isinstance(found, Missing):
                    continue
                low, high = (found.mean if end is None else end for end in (found.low, found.high))
                points.append((place + 0.14 * (number_ - 1.5), found.mean, found.mean - low, high - found.mean))
            if points:
                x, mean, below, above = np.array(points).T
                style: Any = {"color": COLOURS[number_], "marker": MARKERS[number_], "linestyle": "none"}
                panel.errorbar(
                    x, 100 * mean, (100 * below, 100 * above), capsize=2.5, markersize=5, label=name, **style
                )
        panel.set_xticks(range(len(inflation.classifiers)), inflation.classifiers)
        panel.set_xlim(-0.5, len(inflation.classifiers) - 0.5)
        panel.set_ylabel("accuracy, percent, 95 % interval")
        figure.legend(loc="outside right center", frameon=False)
        save(figure, path)
