"""A paired difference of two arms with what a claim needs: interval, p, wins, smallest difference shown."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from steeldefect.report.arms import Arms, Group, Missing, flipped_sums, paired_runs
from steeldefect.report.collect import Record
from steeldefect.report.permutation import sign_flip
from steeldefect.report.repeats import trainings
from steeldefect.report.statistics import Estimate, estimate, p_value, smallest_shown
from steeldefect.report.tables import Entry, group_columns, lacking, number, sizes

# protocol, "Intervals": the one primary hypothesis, against the better of its controls
PRIMARY_CLASSIFIER, PRIMARY_MIX, PRIMARY_GAN, PRIMARY_SCHEDULE = "mobilenet_v2", "org20", "edcgan", "fixed_steps"
PRIMARY_CONTROLS: tuple[str, ...] = ("org100", "classical")
FEWEST = 4  # pairs below which nothing is said but the figures
TESTABLE = 3  # pairs below which there is no p: the standard error of two is a matter of luck
HEAD = (
    *("classifier", "difference of", "points", "p", "p by scene", "p Holm", "wins"),
    *("smallest shown", "runs / images / scenes"),
)
# fmt: off
COLUMNS = (
    "dataset", "split", "scale", "schedule", "gan", "augment", "real_per_class", "metric", "classifier", "mix", "arm",
    "primary", "difference_percent", "low_percent", "high_percent", "p", "p_by_scene", "p_holm", "wins",
    "smallest_shown_percent", "n_runs", "n_images", "n_scenes", "n_not_trained", "n_missing", "status", "interval",
    "all_cells_percent", "all_cells_low_percent", "all_cells_high_percent", "n_all_cells",
)
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
    cells: frozenset[str]
    not_trained: int = 0
    absent: int = 0
    primary: bool = False
    p_holm: float | None = None
    ungated: Estimate | None = None  # over all cells, where those that did not train make more pairs
    across: bool = False  # of two groups: schedules
    again: bool = False  # the cells of a difference in a table above

    @property
    def slot(self) -> frozenset[str] | tuple[Any, ...]:
        """Its place in the family of Holm's correction."""
        return self.cells or (self.group, self.classifier, self.mix, self.arm)

    def line(self) -> tuple[str, ...]:
        """As `HEAD`."""
        entry = Entry(self.found, "", True, self.not_trained, self.absent)
        head = (self.classifier, f"{self.mix} - {self.arm}{' (as above)' if self.again else ''}", entry.text())
        if isinstance(self.found, Missing):
            return (*head, *("",) * (len(HEAD) - 3))
        shown = "" if self.smallest is None else f"{100 * self.smallest:.1f}" if self.smallest <= 1 else "over 100"
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
        if self.ungated is not None:
            whole = {
                "all_cells": self.ungated.mean,
                "all_cells_low": self.ungated.low,
                "all_cells_high": self.ungated.high,
            }
            row |= {f"{key}_percent": number(value, 100, 4) for key, value in whole.items()}
            row |= {"n_all_cells": self.ungated.n_runs}
        row |= {key: number(getattr(self, key), 1, 6) for key in ("p", "p_by_scene", "p_holm")}
        row |= {"wins": self.wins, "n_runs": self.found.n_runs, **self.sizes}
        return row | {"status": "trained", "interval": self.found.method}


def is_question(group: Group) -> bool:
    """Whether the primary hypothesis can be asked of the group's generator, be it not the paper's."""
    plain = group.augment == "none" and group.real_per_class is None
    return plain and group.gan != "none" and group.schedule == PRIMARY_SCHEDULE


def is_primary_group(group: Group) -> bool:
    return is_question(group) and group.gan == PRIMARY_GAN


def contrast(
    arms: Arms, classifier: str, mix: str, arm: str, metric: str, replicates: Iterable[int] | None = None
) -> Contrast:
    """`mix` minus `arm`, paired by replicate, over the given replicates or all that have both."""
    one, two = arms.arm(classifier, mix), arms.arm(classifier, arm)
    wanted = None if replicates is None else set(replicates)

    def kept(cells: Mapping[int, Record]) -> Mapping[int, Record]:
        return {r: cell for r, cell in cells.items() if wanted is None or r in wanted}

    primary = (
        is_primary_group(arms.group)
        and (classifier, mix) == (PRIMARY_CLASSIFIER, PRIMARY_MIX)
        and arm in PRIMARY_CONTROLS
        and metric == arms.metric
    )
    found = compared((arms, kept(one.trained)), (arms, kept(two.trained)), (classifier, mix, arm), metric)
    whole = paired_runs((arms, one.cells), (arms, two.cells), metric)
    if len(whole) > len(arms.differences(classifier, mix, arm, metric)):
        found = replace(found, ungated=estimate(list(whole.values()), fraction=False))
    short = lacking([one, two])
    if isinstance(found.found, Missing):
        both = one.cells and two.cells
        found = replace(found, found=Missing("not trained" if both and short[0] else "missing"))
    return replace(found, not_trained=short[0], absent=short[1], primary=primary)


def compared(
    one: tuple[Arms, Mapping[int, Record]],
    other: tuple[Arms, Mapping[int, Record]],
    names: tuple[str, str, str],
    metric: str,
) -> Contrast:
    """Cells by replicate minus those of another arm, of another group, too, whose difference it then is.

    names: classifier, mix and arm, as printed.
    """
    paired = paired_runs(one, other, metric)
    runs = list(paired.values())
    found = estimate(runs, fraction=False) if runs else Missing("missing")
    sums = flipped_sums(one, other, metric, paired) if len(runs) > 1 else None
    enough = len(runs) >= TESTABLE and 3 * len(runs) >= 2 * len(set(one[0].replicates) | set(other[0].replicates))
    judged = enough and isinstance(found, Estimate)
    return Contrast(
        *(other[0].group, *names, metric, found),
        p=p_value(found) if judged and isinstance(found, Estimate) else None,
        p_by_scene=sign_flip(sums) if judged and sums is not None else None,
        wins=sum(run.value > 0 for run in runs),
        smallest=smallest_shown(found) if judged and isinstance(found, Estimate) else None,
        sizes=sizes(one[0], [one[1][r] for r in paired]),
        cells=frozenset(each["id"] for r in paired for cell in (one[1][r], other[1][r]) for each in trainings(cell)),
    )


def _shown(p: float | None) -> str:
    return "" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"
