"""A paired difference of two arms with what a claim needs: interval, p, wins, smallest difference shown."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from steeldefect.report.arms import Arms, Group, Missing
from steeldefect.report.repeats import trainings
from steeldefect.report.statistics import Estimate, estimate, p_value, scene_sums, sign_flip, smallest_shown
from steeldefect.report.tables import Entry, group_columns, number, shortfall, sizes

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
        cells=frozenset(each["id"] for r in paired for cell in (one[r], two[r]) for each in trainings(cell)),
        primary=(
            is_primary_group(arms.group)
            and (classifier, mix) == (PRIMARY_CLASSIFIER, PRIMARY_MIX)
            and arm in PRIMARY_CONTROLS
            and metric == arms.metric
        ),
    )


def _shown(p: float | None) -> str:
    return "" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"
