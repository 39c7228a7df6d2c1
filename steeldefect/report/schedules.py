"""What fewer updates cost: org100 under schedule=fixed_steps less org100 under schedule=paper (PLAN.md, S13)."""

from collections.abc import Mapping, Sequence

from steeldefect.report.arms import Arms, Missing, paired_runs
from steeldefect.report.collect import Record
from steeldefect.report.repeats import trainings
from steeldefect.report.statistics import estimate
from steeldefect.report.tables import BASELINE, TITLES, Entry, Table

MANY, FEW = "fixed_steps", "paper"


def schedules_tables(tables: Sequence[Arms]) -> list[Table]:
    """A table for each group of schedule=paper beside which its like under fixed_steps lies; one for all generators.

    The gate of 90 % would remove just the cells that fewer updates hurt, so those of `paper` enter the first column whether
    they pass it or not.
    """
    found: list[Table] = []
    for few in (arms for arms in tables if arms.group.schedule == FEW):
        if any(few.group == table.group._replace(gan=few.group.gan) for table in found):
            continue  # org100 holds no image of a bank
        for many in (arms for arms in tables if arms.group == few.group._replace(schedule=MANY)):
            classifiers = [c for c in few.classifiers if _cells(few, c) and _cells(many, c)]
            rows = tuple((c, (_cost(many, few, c, gate=False), _cost(many, few, c, gate=True))) for c in classifiers)
            if rows:
                what = f"{BASELINE} under {MANY} less {BASELINE} under {FEW}"
                title = f"What fewer updates cost: {what}, {TITLES[few.metric]}, points"
                columns = ("all cells of paper", "those that trained")
                found.append(Table(title, few.metric, few.group, "classifier", columns, rows))
    return found


def _cells(arms: Arms, classifier: str) -> dict[int, Record]:
    """Of org100, by replicate, trained or not."""
    own = (record for record in arms.cells if (record["classifier"], record["mix"]) == (classifier, BASELINE))
    return {record["replicate"]: record for record in own if record["replicate"] in arms.replicates}


def _cost(many: Arms, few: Arms, classifier: str, gate: bool) -> Entry:
    passed = many.arm(classifier, BASELINE).trained
    other: Mapping[int, Record] = few.arm(classifier, BASELINE).trained if gate else _cells(few, classifier)
    runs = list(paired_runs((many, passed), (few, other), few.metric).values())
    present = set(_cells(many, classifier)) & set(_cells(few, classifier))
    absent = len(set(many.replicates) | set(few.replicates)) - len(present)
    value = estimate(runs, fraction=False) if runs else Missing("not trained" if present else "missing")
    records = tuple(one["id"] for of in (passed, other) for record in of.values() for one in trainings(record))
    return Entry(value, "", True, len(present) - len(runs), absent, ((classifier, BASELINE),), records)
