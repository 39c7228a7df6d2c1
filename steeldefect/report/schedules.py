"""Differences across schedules: what fewer updates cost (PLAN.md, S13), and what the order of the same images makes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from steeldefect.report.arms import Arms, Missing, paired_runs
from steeldefect.report.collect import Record
from steeldefect.report.differences import Contrast, compared
from steeldefect.report.repeats import trainings
from steeldefect.report.statistics import estimate
from steeldefect.report.tables import BASELINE, TITLES, Entry, Table, lacking

MANY, FEW = "fixed_steps", "paper"
REPEATED = "oversampled"


def across_schedules(tables: Sequence[Arms], few: Arms, metric: str) -> list[Contrast]:
    """The differences that a group of schedule=paper, `few`, has to its like under fixed_steps; none of other groups.

    org100 under fixed_steps less org100 under paper, of which those that did not train enter, too, as in
    `schedules_tables`. And `oversampled` less org100 under fixed_steps: the same images as often, in another order.
    """
    if few.group.schedule != FEW:
        return []
    return [
        one
        for many in tables
        if many.group == few.group._replace(schedule=MANY)
        for classifier in few.classifiers
        for one in _across(many, few, classifier, metric)
    ]


def _across(many: Arms, few: Arms, classifier: str, metric: str) -> Iterator[Contrast]:
    own, other, repeated = (
        many.arm(classifier, BASELINE), few.arm(classifier, BASELINE), few.arm(classifier, REPEATED)
    )  # fmt: skip
    many_name = f"{BASELINE} ({MANY})"
    if own.cells and other.cells:
        names = classifier, many_name, f"{BASELINE} ({FEW})"
        found = compared((many, own.trained), (few, other.cells), names, metric)
        yield _told(found, len(own.failed), lacking([own, other])[1])
    if own.cells and repeated.cells:
        names = classifier, f"{REPEATED} ({FEW})", many_name
        found = compared((few, repeated.trained), (many, own.trained), names, metric)
        short = lacking([own, repeated])
        yield _told(replace(found, group=few.group), *short)


def _told(found: Contrast, not_trained: int, absent: int) -> Contrast:
    if isinstance(found.found, Missing):
        found = replace(found, found=Missing("not trained" if not_trained else "missing"))
    return replace(found, not_trained=not_trained, absent=absent, across=True)


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
            classifiers = [c for c in few.classifiers if all(arms.arm(c, BASELINE).cells for arms in (few, many))]
            rows = tuple((c, (_cost(many, few, c, gate=False), _cost(many, few, c, gate=True))) for c in classifiers)
            if rows:
                what = f"{BASELINE} under {MANY} less {BASELINE} under {FEW}"
                title = f"What fewer updates cost: {what}, {TITLES[few.metric]}, points"
                columns = ("all cells of paper", "those that trained")
                found.append(Table(title, few.metric, few.group, "classifier", columns, rows))
    return found


def _cost(many: Arms, few: Arms, classifier: str, gate: bool) -> Entry:
    own, lower = many.arm(classifier, BASELINE), few.arm(classifier, BASELINE)
    other: Mapping[int, Record] = lower.trained if gate else lower.cells
    runs = list(paired_runs((many, own.trained), (few, other), few.metric).values())
    present = set(own.cells) & set(lower.cells)
    absent = len(set(many.replicates) | set(few.replicates)) - len(present)
    value = estimate(runs, fraction=False) if runs else Missing("not trained" if present else "missing")
    records = tuple(one["id"] for of in (own.trained, other) for record in of.values() for one in trainings(record))
    return Entry(value, "", True, len(present) - len(runs), absent, ((classifier, BASELINE),), records)
