"""Low data: figures by the number of real images a class, and how many real images a class a bank is worth."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich import box
from rich.markup import escape
from rich.table import Table as RichTable
from scipy.optimize import isotonic_regression

from steeldefect.report.arms import TESTED, Arms, Group, Missing, paired_runs
from steeldefect.report.collect import Record
from steeldefect.report.figures import COLOURS, MARKERS, STYLE, save
from steeldefect.report.statistics import Estimate, Run, estimate
from steeldefect.report.tables import BASELINE, TITLES, Entry, Table, entry, group_columns, number, shortfall

UNKNOWN = 1e9  # in the place of an end of an interval that there is not
POSITIVE = "real_extra"  # real images in the place of the bank's: the positive control
EXCHANGE_HEAD = ("classifier", "augment", "k", "mix", "real images a class", "numbers that were trained")
# fmt: off
EXCHANGE = (
    "dataset", "split", "scale", "schedule", "gan", "augment", "real_per_class", "classifier", "mix", "metric",
    "worth", "low", "high", "knots", "n_runs", "n_not_trained", "n_missing", "status",
)
NOTE = """\
*real images a class*: the number at which real images alone give what the mix gives in the tested metric. At each number
that was trained (org100, and the positive control real_extra, which adds real images in the place of synthetic ones; same
updates, same replicates) the paired difference of the mix to real images is estimated; made to fall with the number and
linear in its logarithm between, it crosses 0 at that number. In brackets the numbers that none of the 95 % intervals of these
differences contradicts. Outside of the numbers that were trained nothing is extrapolated: *not reached*.
"""
# fmt: on


@dataclass(frozen=True)
class LowDataTable(Table):
    """Columns `k=10`: the groups of one augmentation that differ in nothing else than real images a class."""

    @property
    def heading(self) -> str:
        return self.group.title.rpartition(",")[0] + "; columns: real images a class"

    def long(self) -> Iterable[dict[str, Any]]:
        for row in super().long():
            yield row | {"real_per_class": row["column"].removeprefix("k=")}


@dataclass(frozen=True)
class Worth:
    """How many real images a class give what a mix gives; -inf or inf where that lies outside of the knots.

    `knots`: the numbers of real images a class that were trained, rising.
    """

    mean: float
    low: float
    high: float
    knots: tuple[float, ...]
    n_runs: int

    def text(self) -> str:
        low, high = self._shown(self.low), self._shown(self.high)
        mean = self._shown(self.mean)
        return f"{mean if np.isfinite(self.mean) else f'not reached ({mean})'} [{low}, {high}] n={self.n_runs}"

    def _shown(self, value: float) -> str:
        if np.isfinite(value):
            return f"{value:.0f}"
        return f"under {self.knots[0]:.0f}" if value < 0 else f"over {self.knots[-1]:.0f}"


@dataclass(frozen=True)
class ExchangeTable:
    """Real images a class that each mix of a bank is worth; rows by classifier, k, augment and mix."""

    group: Group
    rows: tuple[tuple[Group, str, str, Worth | Missing, tuple[int, int]], ...]

    metric: str = TESTED[0]

    @property
    def title(self) -> str:
        return f"What a bank is worth: real images a class that give the same {TITLES[self.metric]}"

    @property
    def heading(self) -> str:
        return f"dataset={self.group.dataset} split={self.group.split} scale={self.group.scale} gan={self.group.gan}"

    @property
    def lines(self) -> list[tuple[str, ...]]:
        lines: list[tuple[str, ...]] = []
        for group, classifier, mix, found, _ in self.rows:
            text = found.why if isinstance(found, Missing) else found.text()
            knots = "" if isinstance(found, Missing) else ", ".join(f"{n:.0f}" for n in found.knots)
            lines.append((classifier, group.augment, str(group.real_per_class), mix, text, knots))
        return lines

    def markdown(self) -> str:
        lines = [EXCHANGE_HEAD, ("---",) * len(EXCHANGE_HEAD), *self.lines]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def rich(self) -> RichTable:
        table = RichTable(title=self.title, caption=self.heading, box=box.SIMPLE_HEAD, padding=(0, 1))
        for column in EXCHANGE_HEAD:
            table.add_column(column, overflow="fold")
        for line in self.lines:
            table.add_row(*map(escape, line))
        return table

    def long(self) -> Iterable[dict[str, Any]]:
        for group, classifier, mix, found, short in self.rows:
            row = group_columns(group) | {"classifier": classifier, "mix": mix, "metric": self.metric}
            row |= dict(zip(("n_not_trained", "n_missing"), short, strict=True))
            if isinstance(found, Missing):
                yield row | {"n_runs": 0, "status": found.why}
                continue
            ends = {"worth": found.mean, "low": found.low, "high": found.high}
            row |= {key: number(value, 1, 3) if np.isfinite(value) else "" for key, value in ends.items()}
            row |= {"knots": " ".join(f"{n:.0f}" for n in found.knots), "n_runs": found.n_runs}
            yield row | {"status": "trained" if np.isfinite(found.mean) else "not reached"}


def families(tables: Sequence[Arms]) -> list[list[Arms]]:
    """Groups of low data that differ in real images a class and augmentation alone.

    A number of real images at which a generator has no cell belongs to its family by the cells without a bank.
    """
    found: dict[tuple[str, ...], list[Arms]] = {}
    for arms in tables:
        found.setdefault(tuple(arms.group[:5]), []).append(arms)
    for key, own in found.items():
        have = {arms.group for arms in own}
        for arms in tables:
            group = arms.group._replace(gan=key[4])
            if arms.group[:4] == key[:4] and group not in have and any(map(group.holds, arms.collection.records)):
                have.add(group)
                own.append(Arms(arms.collection, group, arms.replicates, arms.metric))
    # cells without a bank are told with each generator that there is
    with_bank = {key[:4] for key in found if key[4] != "none"}
    return [
        own
        for key, own in found.items()
        if any(arms.group.real_per_class is not None for arms in own) and (key[4] != "none" or key[:4] not in with_bank)
    ]


def low_data_tables(family: Sequence[Arms], declared: Sequence[str] = ()) -> list[LowDataTable]:
    """Mixes, and their differences to org100, by real images a class: a table a classifier, augmentation and metric."""
    tables = []
    for classifier in sorted({c for arms in family for c in arms.classifiers}):
        for augment in sorted({arms.group.augment for arms in family}, reverse=True):
            own = sorted((arms for arms in family if arms.group.augment == augment), key=_k)
            mixes = sorted({mix for arms in own for mix in arms.mixes} | set(declared), key=own[0].order)
            for metric in own[0].metrics:
                rows = [(mix, tuple(_entry(arms, classifier, mix, metric) for arms in own)) for mix in mixes]
                rows += [
                    (f"{mix} - {BASELINE}", tuple(_difference(arms, classifier, mix, metric) for arms in own))
                    for mix in mixes
                    if mix != BASELINE
                ]
                title = f"Low data: {TITLES[metric]} by real images a class, {classifier}, percent"
                columns = tuple(f"k={arms.group.real_per_class or 'all'}" for arms in own)
                tables.append(LowDataTable(title, metric, own[0].group, "arm", columns, tuple(rows)))
    return tables


def _k(arms: Arms) -> float:
    return arms.group.real_per_class or np.inf


def _entry(arms: Arms, classifier: str, mix: str, metric: str) -> Entry:
    return entry(arms, [(classifier, mix)], arms.estimate(classifier, mix, metric))


def _difference(arms: Arms, classifier: str, mix: str, metric: str) -> Entry:
    of = [(classifier, mix), (classifier, BASELINE)]
    return entry(arms, of, arms.difference(classifier, mix, BASELINE, metric))


def exchange_table(family: Sequence[Arms]) -> ExchangeTable:
    """Every mix with a bank at every k, in real images a class."""
    rows = []
    for arms in sorted((arms for arms in family if arms.group.real_per_class), key=lambda arms: arms.group[5:]):
        with_bank = {record["mix"] for record in arms.records if record["gan"] != "none"}
        for classifier in arms.classifiers:
            for mix in sorted(with_bank, key=arms.order):
                found = worth(family, arms, classifier, mix)
                rows.append((arms.group, classifier, mix, found, shortfall(arms, [(classifier, mix)])))
    return ExchangeTable(family[0].group, tuple(rows), family[0].metric)


def worth(family: Sequence[Arms], arms: Arms, classifier: str, mix: str) -> Worth | Missing:
    """The number of real images a class at which real images alone give what `mix` gives, in the tested metric.

    At each number n that was trained (the positive control at this k; org100 at any k with the same updates) the paired
    difference of `mix` to it is estimated, which more real images can only lower. Its mean, made falling and linear in
    log n between, gives the n at which it crosses 0. The interval holds every n that no knot contradicts: it ends before
    a knot whose interval lies below 0 and begins behind one whose interval lies above.
    """
    own = arms.arm(classifier, mix).trained
    if not own:
        return arms.arm(classifier, mix).why_empty
    found = _against_real(family, arms, classifier, own)
    if not found:
        return Missing("missing", "no real images to compare with")
    knots = tuple(sorted(found))
    of = [found[n] for n in knots]
    mean = _crossing(knots, _falling(of))
    # an end that is not known says nothing
    lows = np.array([-UNKNOWN if one.low is None else one.low for one in of])
    highs = np.array([UNKNOWN if one.high is None else one.high for one in of])
    low = _crossing(knots, np.maximum.accumulate(lows[::-1])[::-1])
    high = _crossing(knots, np.minimum.accumulate(highs))
    return Worth(mean, min(low, high), max(low, high), knots, min(one.n_runs for one in of))


def _falling(found: Sequence[Estimate]) -> np.ndarray:
    """The means, made falling, each with the weight that its standard error gives it."""
    errors = np.array([np.nan if one.error is None else one.error for one in found])
    weights = 1 / errors**2 if bool(np.all(errors > 0)) else None
    return np.asarray(isotonic_regression([one.mean for one in found], weights=weights, increasing=False).x)


def _crossing(knots: Sequence[float], falling: Sequence[float] | np.ndarray) -> float:
    """Where falling values are 0, linear in log n between the knots; -inf or inf before or behind them."""
    if falling[0] < 0 or falling[-1] > 0:
        return float(np.copysign(np.inf, falling[0]))
    # towards an end that is not known the crossing is at its knot
    return float(np.exp(np.interp(0.0, -np.asarray(falling), np.log(knots))))


def _against_real(
    family: Sequence[Arms], arms: Arms, classifier: str, own: Mapping[int, Record]
) -> dict[float, Estimate]:
    """The difference to each number of real images a class that was trained with the same updates.

    A number is an arm: where splits leave a few images more or fewer, it is their mean over the replicates.
    """
    runs: dict[float, list[Run]] = {}
    updates = next(iter(own.values()))["updates"]
    for other in family:
        if other.group.augment != arms.group.augment:
            continue
        mixes = [mix for mix in other.mixes if mix == BASELINE or (other is arms and mix.startswith(POSITIVE))]
        for mix in mixes:
            real = {r: c for r, c in other.arm(classifier, mix).trained.items() if c["updates"] == updates}
            paired = paired_runs((arms, own), (other, real), arms.metric)
            if paired:
                images = float(np.mean([real[r]["counts"]["real"] for r in paired])) / len(arms.classes)
                # where org100 and the positive control have the same number, the first found stands
                runs.setdefault(images, list(paired.values()))
    return {n: estimate(own, fraction=False) for n, own in runs.items()}


def low_data_figure(family: Sequence[Arms], path: Path) -> bool:
    """Tested metric by real images a class, a panel an augmentation, a line a classifier and mix; False: nothing trained."""
    drawn = [arms for arms in family if arms.group.real_per_class]
    augments = sorted({arms.group.augment for arms in drawn}, reverse=True)
    lines = drawn_lines(drawn)
    if not lines:
        return False
    ks = sorted({_k(arms) for arms in drawn})
    classifiers, mixes = (sorted(set(part)) for part in zip(*lines, strict=True))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.4 * len(augments) + 1.8, 3.8), layout="constrained")
        panels = figure.subplots(1, len(augments), sharex=True, sharey=True, squeeze=False)[0]
        for panel, augment in zip(panels, augments, strict=True):
            own = sorted((arms for arms in drawn if arms.group.augment == augment), key=_k)
            for position, line in enumerate(lines):
                # a colour and marker a mix, a dash a classifier
                look = mixes.index(line[1]), classifiers.index(line[0])
                _line(panel, own, line, look, 1.03 ** (position - (len(lines) - 1) / 2))
            panel.set_xscale("log")
            panel.set_xlim(min(ks) / 1.5, max(ks) * 1.5)
            panel.set_xticks(ks, [f"{k:g}" for k in ks])
            panel.minorticks_off()
            panel.set_title(f"augment={augment}")
            panel.set_xlabel("real images a class")
        panels[0].set_ylabel(f"{TITLES[drawn[0].metric]}, %, 95 % interval where n allows one")
        handles: dict[str, Any] = {}
        for panel in panels:
            drawn_here, labels = panel.get_legend_handles_labels()
            handles |= dict(zip(labels, drawn_here, strict=True))
        figure.legend(handles.values(), handles.keys(), loc="outside right center", frameon=False)
        save(figure, path)
    return True


def drawn_lines(family: Sequence[Arms]) -> list[tuple[str, str]]:
    """Classifier and mix of every arm that trained in one of these groups."""
    lines = sorted({(c, mix) for arms in family for c in arms.classifiers for mix in arms.mixes})
    return [line for line in lines if any(arms.arm(*line).trained for arms in family)]


def _line(panel: Axes, own: Sequence[Arms], line: tuple[str, str], look: tuple[int, int], aside: float) -> None:
    """`aside`: a factor on x, so that intervals do not lie over each other."""
    points = [(_k(arms), arms.estimate(*line, arms.metric)) for arms in own]
    shown = [(k, found) for k, found in points if isinstance(found, Estimate)]
    if not shown:
        return
    ends = [[found.mean if end is None else end for end in (found.low, found.high)] for _, found in shown]
    mean = np.array([found.mean for _, found in shown])
    low, high = np.array(ends).T
    x, bars = aside * np.array([k for k, _ in shown]), 100 * np.array([mean - low, high - mean])
    style: Any = {"color": COLOURS[look[0] % len(COLOURS)], "marker": MARKERS[look[0] % len(MARKERS)]}
    style["linestyle"] = ("-", "--", ":", "-.")[look[1] % 4]
    panel.errorbar(x, 100 * mean, bars, capsize=2.5, markersize=5, linewidth=1.3, label=", ".join(line), **style)
