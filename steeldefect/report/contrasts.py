"""Every arm against the controls: which differences a study holds, Holm's correction over them, and their tables."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table as RichTable

from steeldefect.report.arms import Arms, Group
from steeldefect.report.differences import (
    FEWEST,
    HEAD,
    PRIMARY_GAN,
    Contrast,
    contrast,
)
from steeldefect.report.repeats import trainings
from steeldefect.report.schedules import across_schedules
from steeldefect.report.statistics import holm
from steeldefect.report.tables import CONTROLS, TITLES, UNIFORM, Entry, contrasted
from steeldefect.report.verdict import asked, question
from steeldefect.runs.environment import alike

NOTE = f"""\
*points*: mean paired difference over replicates, [95 % interval], n = runs. *p*: of no difference, two-sided, from the same
two-way clustered standard error. *p by scene*: sign-flip permutation by scene, exact where few scenes differ; it takes the
trained runs as they are, so where runs differ by luck it is far too small: it can take back what an interval says and shows
nothing by itself. *p Holm*: of all differences of this report in the tested metric but the primary ones, one
family, in which those that are missing or have no p count as 1. Under three runs, or two thirds of the declared ones, a
difference has its figures and no p. *as above*: the same cells are compared in a table above.
*wins*: runs in which the first arm was better. *smallest shown*: the smallest true difference that this n, with this
standard error, shows at the 5 % level with a probability of 80 %. AP (paper) is printed beside and not tested again.
The primary hypothesis is judged on the replicates in which all three arms were trained. Its better control is picked from
the same figures, so org20 *helps* only if its intervals to both controls lie above 0 (each test at 5 %: both must
reject, which needs no correction), and *hurts* if the interval to the better one lies below 0 (which the picking makes
somewhat more frequent than one in forty where all three are alike); both only if the
permutation by scene agrees, and with {FEWEST} pairs or more. Anything else is *not shown*. An interval of two runs is itself
a matter of luck: read the figures of the runs.
"""


@dataclass(frozen=True)
class ContrastTable:
    """The contrasts of one group in one metric; the primary hypothesis, where it is the group's, comes first."""

    group: Group
    metric: str
    contrasts: tuple[Contrast, ...]
    primary: tuple[Contrast, ...] = ()
    said: str = ""
    note: str = ""
    answer: tuple[Contrast, ...] = ()  # the differences that `said` is about, be the generator another than the paper's

    @property
    def title(self) -> str:
        return f"Differences between arms: {TITLES[self.metric]}, percentage points ({self.group.short})"

    @property
    def heading(self) -> str:
        return self.group.title

    @property
    def others(self) -> tuple[Contrast, ...]:
        return tuple(contrast for contrast in self.contrasts if not contrast.primary)

    @property
    def listed(self) -> tuple[Contrast, ...]:
        """All of them, the primary ones as they are judged."""
        return (*self.primary, *self.others)

    def markdown(self) -> str:
        parts = [f"**In words**, by the rule of the primary hypothesis: {self.said}"] if self.said else []
        if self.primary:
            parts = ["**Primary hypothesis.** " + self.said, _markdown(self.primary), "**All others.**"]
        parts += [_markdown(self.others)] if self.others else ["None."]
        return "\n\n".join([*parts, *([self.note] if self.note else [])])

    def rich(self) -> RichTable:
        table = RichTable(
            title=self.title, caption=escape(self.said.replace("**", "")) or None, box=box.SIMPLE_HEAD, padding=(0, 1)
        )
        for column in HEAD:
            table.add_column(column, overflow="fold")
        for one in self.listed:
            table.add_row(*map(escape, one.line()), style="bold" if one.primary else None)
        return table


@dataclass(frozen=True)
class Declared:
    """The arms that a study holds under one augmentation: each of its classifiers on each of its mixes."""

    classifiers: Sequence[str] = ()
    mixes: Sequence[str] = ()


def expected(tables: Sequence[Arms], group: Group, declared: Mapping[str, Declared]) -> Declared:
    """What a study declares, for the groups that it is about; others (a second GAN, the second schedule) hold parts."""
    own = declared.get(group.augment, Declared())
    if group.gan != PRIMARY_GAN and any(arms.group.gan == PRIMARY_GAN for arms in tables):
        return Declared()
    if group.real_per_class is not None:
        return own
    main = min(arms.group.schedule for arms in tables)  # fixed_steps where there is one
    return own if group.schedule == main else Declared()


def contrast_tables(
    tables: Sequence[Arms],
    declared: Mapping[str, Declared] | None = None,
    family: Mapping[str, Declared] | None = None,
) -> list[ContrastTable]:
    """Two tables a group, of the tested metric and AP (paper). `declared`: by augmentation, missing ones printed.

    `family`: what the study declares, where `declared` is a part of it: Holm's correction is over all of it.
    """
    metrics = tables[0].metrics
    tested = metrics[0]
    wanted = [expected(tables, arms.group, declared or {}) for arms in tables]
    whole = [expected(tables, arms.group, family or declared or {}) for arms in tables]
    made = {metric: _made(tables, whole, metric) for metric in metrics}
    corrected, number = _corrected(made[tested])
    made[tested] = corrected
    found = []
    for position, (arms, own) in enumerate(zip(tables, wanted, strict=True)):
        for metric in metrics:
            classifier = asked(arms)
            answer, said = question(arms, classifier, metric) if metric == tested and classifier else ((), "")
            # of mixes that fill up small classes the question is asked, too, but it is not the primary hypothesis
            primary = answer if all(one.primary for one in answer) else ()
            contrasts = tuple(one for one in made[metric][position] if _is_shown(one, arms, own))
            notes = [
                f"Holm over {number} differences." if metric == tested and number else "",
                _ungated(contrasts) if metric == tested else "",
                _absent(arms, own.mixes),
                _machines(arms, contrasts),
            ]
            note = " ".join(filter(None, notes))
            found.append(ContrastTable(arms.group, metric, contrasts, primary, said, note, answer))
    return [table for table in found if table.contrasts]


def _made(tables: Sequence[Arms], declared: Sequence[Declared], metric: str) -> list[list[Contrast]]:
    """The contrasts of each group; those whose cells are compared in a group before are marked."""
    seen: set[Any] = set()
    made = []
    for arms, own in zip(tables, declared, strict=True):
        group = [contrast(arms, *pair, metric) for pair in _pairs(arms, own)]
        group += across_schedules(tables, arms, metric)
        made.append([replace(one, again=one.slot in seen) for one in group])
        seen |= {one.slot for one in group}
    return made


def _corrected(made: Sequence[Sequence[Contrast]]) -> tuple[list[list[Contrast]], int]:
    """With Holm's p over every difference once, those of the primary hypothesis left out, and the number of them."""
    judged = {one.slot for group in made for one in group if one.primary}
    adjusted = _holm([one for group in made for one in group if one.slot not in judged])
    # of what has no p there is nothing to adjust
    filled = [
        [one if one.p is None or one.slot in judged else replace(one, p_holm=adjusted[one.slot]) for one in group]
        for group in made
    ]
    return filled, len(adjusted)


def _is_shown(one: Contrast, arms: Arms, declared: Declared) -> bool:
    """What has cells, and of what has none that which is declared."""
    if {one.mix, one.arm} <= {*arms.mixes} and one.classifier in arms.classifiers:
        return True
    return bool(one.cells) or one.across or (one.classifier, one.mix, one.arm) in _pairs(arms, declared)


def _pairs(arms: Arms, declared: Declared) -> list[tuple[str, str, str]]:
    """Classifier, mix and control; a control earlier in the list is not compared with a later one."""
    mixes = [*arms.mixes, *(mix for mix in declared.mixes if mix not in arms.mixes)]
    return [
        (classifier, mix, arm)
        for classifier in sorted({*arms.classifiers, *declared.classifiers})
        for arm in CONTROLS
        if arm in mixes and not (arm.startswith("oversampled") and arm not in arms.mixes)
        for mix in mixes
        if contrasted(mix, arm)
    ]


def _holm(contrasts: Sequence[Contrast]) -> dict[Any, float]:
    """By slot; a contrast that was not reached or not judged keeps its place."""
    family = {one.slot: 1.0 if one.p is None else one.p for one in contrasts}
    return dict(zip(family, holm(list(family.values())), strict=True))


def _machines(arms: Arms, contrasts: Iterable[Contrast]) -> str:
    """What is to be known of pairs whose two cells rest on weights of different machines."""
    machine = {record["id"]: str(record["environment"].get("machine")) for record in arms.records}
    split = set()
    for one in contrasts:
        cells = [arms.arm(one.classifier, mix).trained for mix in (one.mix, one.arm)]
        for r in set(cells[0]) & set(cells[1]):
            one_kind = (machine[each["id"]] for each in trainings(cells[0][r]))
            other_kind = [machine[each["id"]] for each in trainings(cells[1][r])]
            if any(not alike(a, b) for a in one_kind for b in other_kind):
                split.add((one.classifier, one.mix, one.arm, r))
    if not split:
        return ""
    return (
        f"The two cells of {len(split)} pairs were trained on different kinds of machine, from initial weights that "
        "need not be the same: a difference then holds what that makes, as noise."
    )


def _ungated(contrasts: Iterable[Contrast]) -> str:
    """The differences that the gate has a part in, without it."""
    found = [one for one in contrasts if one.ungated is not None and one.ungated.n_runs > 1]
    if not found:
        return ""
    told = (f"{one.classifier} {one.mix} - {one.arm} {Entry(one.ungated, '', True).text()}" for one in found)
    return f"With the cells that did not train, which enter nowhere else: {'; '.join(told)}."


def _absent(arms: Arms, declared: Sequence[str]) -> str:
    lines = [
        f"No cell of {arm}: nothing is compared with it."
        for arm in CONTROLS
        if {arm, arm + UNIFORM}.isdisjoint({*arms.mixes, *declared})
        and arm != "oversampled"
        and not arm.endswith(UNIFORM)
    ]
    if "oversampled" not in arms.mixes:
        lines.append(
            "oversampled has the images and the number of updates of org100 here, in another order: its cells are of "
            "schedule=paper."
            if arms.group.schedule == "fixed_steps"
            else "No cell of oversampled: nothing is compared with it."
        )
    return " ".join(lines)


def _markdown(contrasts: Iterable[Contrast]) -> str:
    lines = [HEAD, ("---",) * len(HEAD), *(one.line() for one in contrasts)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
