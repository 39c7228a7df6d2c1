"""Paired differences of every arm to the controls, with what a claim needs: interval, p, wins, smallest difference shown."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table as RichTable

from steeldefect.report.arms import Arms, Group, Missing
from steeldefect.report.statistics import (
    LEVEL,
    Estimate,
    estimate,
    holm,
    p_value,
    scene_sums,
    sign_flip,
    smallest_shown,
)
from steeldefect.report.tables import (
    CONTROLS,
    TITLES,
    UNIFORM,
    Entry,
    contrasted,
    group_columns,
    number,
    shortfall,
    sizes,
)

# protocol, "Intervals": the one primary hypothesis, against the better of its controls
PRIMARY_CLASSIFIER, PRIMARY_MIX, PRIMARY_GAN, PRIMARY_SCHEDULE = "mobilenet_v2", "org20", "edcgan", "fixed_steps"
PRIMARY_CONTROLS: tuple[str, ...] = ("org100", "classical")
FEWEST = 4  # pairs below which nothing is said but the figures
HEAD = (
    *("classifier", "difference of", "points", "p", "p by scene", "p Holm", "wins"),
    *("smallest shown", "runs / images / scenes"),
)
# fmt: off
COLUMNS = (
    "dataset", "split", "scale", "schedule", "gan", "augment", "real_per_class", "metric", "classifier", "mix", "arm",
    "primary", "difference_percent", "low_percent", "high_percent", "p", "p_by_scene", "p_holm", "wins",
    "smallest_shown_percent", "n_runs", "n_images", "n_scenes", "n_not_trained", "n_missing", "status", "interval",
)
NOTE = f"""\
*points*: mean paired difference over replicates, [95 % interval], n = runs. *p*: of no difference, two-sided, from the same
two-way clustered standard error. *p by scene*: sign-flip permutation by scene, exact where few scenes differ; it takes the
trained runs as they are. *p Holm*: of all differences of this report in the tested metric but the primary ones, one
family, in which those that are missing or have no p count as 1. Under two thirds of the declared runs a difference has its
figures and no p.
*wins*: runs in which the first arm was better. *smallest shown*: the smallest true difference that this n, with this
standard error, shows at the 5 % level with a probability of 80 %. AP (paper) is printed beside and not tested again.
The primary hypothesis is judged on the replicates in which all three arms were trained. Its better control is picked from
the same figures, so org20 *helps* only if its intervals to both controls lie above 0 (each test at 5 %: both must
reject, which needs no correction), and *hurts* if the interval to the better one lies below 0; both only if the
permutation by scene agrees, and with {FEWEST} pairs or more. Anything else is *not shown*.
"""
# fmt: on


@dataclass(frozen=True)
class Contrast:
    """`mix` minus `arm`; fractions. `cells`: the ids behind it, so that one contrast in two tables is counted once."""

    group: Group
    classifier: str
    mix: str
    arm: str
    metric: str
    found: Estimate | Missing
    p: float | None
    p_by_scene: float | None
    wins: int
    smallest: float | None
    sizes: dict[str, Any]
    not_trained: int
    absent: int
    cells: frozenset[str]
    primary: bool
    p_holm: float | None = None

    @property
    def slot(self) -> frozenset[str] | tuple[Any, ...]:
        """Its place in the family of Holm's correction."""
        return self.cells or (self.group, self.classifier, self.mix, self.arm)

    def line(self) -> tuple[str, ...]:
        """As `HEAD`."""
        entry = Entry(self.found, "", True, self.not_trained, self.absent)
        head = (self.classifier, f"{self.mix} - {self.arm}", entry.text())
        if isinstance(self.found, Missing):
            return (*head, *("",) * (len(HEAD) - 3))
        shown = f"{100 * self.smallest:.1f}" if self.smallest is not None else ""
        counts = " / ".join(str(n) for n in (self.found.n_runs, self.sizes["n_images"], self.sizes["n_scenes"] or "?"))
        wins = f"{self.wins}/{self.found.n_runs}"
        return (*head, _shown(self.p), _shown(self.p_by_scene), _shown(self.p_holm), wins, shown, counts)

    def row(self) -> dict[str, Any]:
        """As `COLUMNS`."""
        row = group_columns(self.group) | {"metric": self.metric, "classifier": self.classifier, "mix": self.mix}
        row |= {"arm": self.arm, "primary": str(self.primary).lower()}
        row |= {"n_not_trained": self.not_trained, "n_missing": self.absent}
        if isinstance(self.found, Missing):
            return row | {"n_runs": 0, "status": self.found.why}
        percent = {"difference": self.found.mean, "low": self.found.low, "high": self.found.high}
        percent["smallest_shown"] = self.smallest
        row |= {f"{key}_percent": number(value, 100, 4) for key, value in percent.items()}
        row |= {key: number(getattr(self, key), 1, 6) for key in ("p", "p_by_scene", "p_holm")}
        row |= {"wins": self.wins, "n_runs": self.found.n_runs, **self.sizes}
        return row | {"status": "trained", "interval": self.found.method}


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
        return f"Differences between arms: {TITLES[self.metric]}, percentage points"

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
        for contrast in self.listed:
            table.add_row(*map(escape, contrast.line()), style="bold" if contrast.primary else None)
        return table


def is_question(group: Group) -> bool:
    """Whether the primary hypothesis can be asked of the group's generator, be it not the paper's."""
    plain = group.augment == "none" and group.real_per_class is None
    return plain and group.gan != "none" and group.schedule == PRIMARY_SCHEDULE


def is_primary_group(group: Group) -> bool:
    return is_question(group) and group.gan == PRIMARY_GAN


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


def contrast_tables(tables: Sequence[Arms], declared: Mapping[str, Declared] | None = None) -> list[ContrastTable]:
    """Two tables a group, of the tested metric and AP (paper). `declared`: by augmentation, missing ones printed."""
    metrics = tables[0].metrics
    tested = metrics[0]
    wanted = [expected(tables, arms.group, declared or {}) for arms in tables]
    made = {
        metric: [
            [contrast(arms, *pair, metric) for pair in _pairs(arms, own)]
            for arms, own in zip(tables, wanted, strict=True)
        ]
        for metric in metrics
    }
    adjusted = _holm([one for group in made[tested] for one in group if not one.primary])
    family = f"Holm over {len(adjusted)} differences."
    for group in made[tested]:
        group[:] = [one if one.primary or one.p is None else replace(one, p_holm=adjusted[one.slot]) for one in group]
    found = []
    for position, (arms, own) in enumerate(zip(tables, wanted, strict=True)):
        for metric in metrics:
            classifier = _asked(arms)
            answer, said = _question(arms, classifier, metric) if metric == tested and classifier else ((), "")
            primary = answer if is_primary_group(arms.group) and classifier == PRIMARY_CLASSIFIER else ()
            contrasts = tuple(made[metric][position])
            notes = [
                family if metric == tested and adjusted else "",
                _absent(arms, own.mixes),
                _machines(arms, contrasts),
            ]
            note = " ".join(filter(None, notes))
            found.append(ContrastTable(arms.group, metric, contrasts, primary, said, note, answer))
    return [table for table in found if table.contrasts]


def contrast(
    arms: Arms, classifier: str, mix: str, arm: str, metric: str, replicates: Iterable[int] | None = None
) -> Contrast:
    """`mix` minus `arm`, paired by replicate, over the given replicates or all that have both."""
    paired = arms.differences(classifier, mix, arm, metric)
    paired = {r: run for r, run in paired.items() if replicates is None or r in set(replicates)}
    runs = list(paired.values())
    found = estimate(runs, fraction=False) if runs else arms.difference(classifier, mix, arm, metric)
    one, two = arms.arm(classifier, mix).trained, arms.arm(classifier, arm).trained
    sums = scene_sums(runs) if runs else None
    short = shortfall(arms, [(classifier, mix), (classifier, arm)])
    enough = 3 * len(runs) >= 2 * len(arms.replicates)
    return Contrast(
        *(arms.group, classifier, mix, arm, metric, found),
        p=p_value(found) if enough and isinstance(found, Estimate) else None,
        p_by_scene=sign_flip(sums) if enough and sums is not None and len(runs) > 1 else None,
        wins=sum(run.value > 0 for run in runs),
        smallest=smallest_shown(found) if enough and isinstance(found, Estimate) else None,
        sizes=sizes(arms, [one[r] for r in paired]),
        not_trained=short[0],
        absent=short[1],
        cells=frozenset(record["id"] for r in paired for record in (one[r], two[r])),
        primary=(
            is_primary_group(arms.group)
            and (classifier, mix) == (PRIMARY_CLASSIFIER, PRIMARY_MIX)
            and arm in PRIMARY_CONTROLS
            and metric == arms.metric
        ),
    )


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
    machine = {record["id"]: record["environment"].get("machine") for record in arms.records}
    split = set()
    for one in contrasts:
        cells = [arms.arm(one.classifier, mix).trained for mix in (one.mix, one.arm)]
        for r in set(cells[0]) & set(cells[1]):
            if machine[cells[0][r]["id"]] != machine[cells[1][r]["id"]]:
                split.add((one.classifier, one.mix, one.arm, r))
    if not split:
        return ""
    return (
        f"The two cells of {len(split)} pairs were trained on different kinds of machine, from initial weights that "
        "need not be the same: a difference then holds what that makes, as noise."
    )


def _asked(arms: Arms) -> str | None:
    """The classifier of which the question is answered: the primary one, or the only one there is; None: no question."""
    if not is_question(arms.group):
        return None
    others = [c for c in arms.classifiers if c != PRIMARY_CLASSIFIER]
    if len(arms.classifiers) == 1 and others:
        return others[0]
    return PRIMARY_CLASSIFIER if PRIMARY_CLASSIFIER in arms.classifiers or is_primary_group(arms.group) else None


def _question(arms: Arms, classifier: str, metric: str) -> tuple[tuple[Contrast, ...], str]:
    """The two contrasts of the primary hypothesis, and what they say together.

    Where the mixes fill up small classes (`org20-uniform`), and only there, it is asked of them and of `classical-uniform`.
    """
    filled = PRIMARY_MIX not in arms.mixes and PRIMARY_MIX + UNIFORM in arms.mixes
    mix, controls = PRIMARY_MIX, PRIMARY_CONTROLS
    if filled:
        mix, controls = mix + UNIFORM, (controls[0], *(arm + UNIFORM for arm in controls[1:]))
    trained = [set(arms.arm(classifier, each).trained) for each in (mix, *controls)]
    shared = set.intersection(*trained)
    whole = all(trained)
    own = tuple(contrast(arms, classifier, mix, arm, metric, shared if whole else None) for arm in controls)
    what = f"{classifier}, {mix} against the better of {' and '.join(controls)}, {TITLES[metric]}"
    return own, f"{what}: {_verdict(own)}"


def _verdict(own: Sequence[Contrast]) -> str:
    judged = [(one, one.found) for one in own if isinstance(one.found, Estimate)]
    if len(judged) < len(own):
        reasons = [f"{one.mix} - {one.arm} is {one.found.why}" for one in own if isinstance(one.found, Missing)]
        return f"cannot be judged, {' and '.join(reasons)}."
    # the control with the higher mean leaves the smaller difference
    better, found = min(judged, key=lambda pair: pair[1].mean)
    head = f"the better one is {better.arm}, the difference to it {Entry(found, '', True).text()}"
    if found.n_runs < FEWEST:
        return f"{head}; nothing is said of fewer than {FEWEST} pairs."
    if all(each.low is not None and each.low > 0 and _agrees(one) for one, each in judged):
        return f"{head}, and both intervals lie above 0: {better.mix} **helps**."
    if found.high is not None and found.high < 0 and _agrees(better):
        return f"{head}: {better.mix} **hurts**."
    least = f"; this n could have shown {100 * better.smallest:.1f} points" if better.smallest else ""
    return f"{head}: **not shown** that {better.mix} helps or hurts{least}."


def _agrees(one: Contrast) -> bool:
    return one.p_by_scene is not None and one.p_by_scene < 1 - LEVEL


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
            "oversampled is org100 here: where the number of updates is fixed, repeating the originals changes nothing."
            if arms.group.schedule == "fixed_steps"
            else "No cell of oversampled: nothing is compared with it."
        )
    return " ".join(lines)


def _markdown(contrasts: Iterable[Contrast]) -> str:
    lines = [HEAD, ("---",) * len(HEAD), *(one.line() for one in contrasts)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(p: float | None) -> str:
    return "" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"
