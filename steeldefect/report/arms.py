"""Which cells belong in one table, and the estimates of its arms (an arm: one classifier trained on one mix)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from steeldefect.report.collect import Collection, Record
from steeldefect.report.permutation import contributions, scene_sums
from steeldefect.report.repeats import ADVICE, cells, differing, repeat_of, require_pooled, trainings, way
from steeldefect.report.statistics import Answers, Estimate, Run, difference, estimate, mean_run, terms
from steeldefect.runs.errors import UserError

DATA_SET = "data set"
DEVELOPMENT = 102  # protocol, "Replicates": from here on they choose settings and enter no study
# the order of rows: Table 2, then the controls
MIXES = (
    *("org100", "org75", "org50", "org30", "org20", "org0"),
    *("classical", "oversampled", "shuffled", "bank1000", "real_extra"),
)


TESTED = ("accuracy", "balanced_accuracy", "macro_f1")  # metrics that differences may be tested in


class Group(NamedTuple):
    """What all cells of one table share; gan is `none` only where no cell has a bank."""

    dataset: str
    split: str
    scale: str
    schedule: str
    gan: str
    augment: str
    real_per_class: int | None

    def holds(self, record: Record) -> bool:
        """Cells without a bank belong to every GAN's table, and a cell to every schedule that gives that cell."""
        same = all(record[key] == getattr(self, key) for key in ("dataset", "split", "scale", "augment"))
        same = same and record["real_per_class"] == self.real_per_class
        return same and record["gan"] in ("none", self.gan) and self.schedule in record["schedules"]

    @property
    def slug(self) -> str:
        parts = [self.dataset, self.split, self.scale, self.schedule, self.gan]
        parts += [] if self.augment == "none" else [self.augment]
        return "-".join([*parts, *([] if self.real_per_class is None else [f"k{self.real_per_class}"])])

    @property
    def short(self) -> str:
        """What tells it from the other groups of most studies."""
        parts = [self.gan, self.schedule, *([] if self.augment == "none" else [f"augment={self.augment}"])]
        return ", ".join([*parts, *([] if self.real_per_class is None else [f"{self.real_per_class} a class"])])

    @property
    def title(self) -> str:
        real = "all real images" if self.real_per_class is None else f"{self.real_per_class} real images a class"
        head = f"dataset={self.dataset} split={self.split} scale={self.scale} schedule={self.schedule}"
        return f"{head} gan={self.gan} augment={self.augment}, {real}"


class Missing(NamedTuple):
    """Why an arm has no figure: `missing` or `not trained`; for a mean over several, `which` of them."""

    why: str
    which: str = ""


@dataclass(frozen=True)
class Arm:
    trained: Mapping[int, Record]  # by replicate
    failed: Mapping[int, Record]  # those that did not pass the gate
    absent: tuple[int, ...]  # replicates that the grid holds and no cell does

    @property
    def cells(self) -> dict[int, Record]:
        """By replicate, trained or not."""
        return dict(sorted({**self.trained, **self.failed}.items()))

    @property
    def why_empty(self) -> Missing:
        return Missing("not trained" if self.failed else "missing")


def study_records(records: Iterable[Record], where: Mapping[str, Any]) -> list[Record]:
    """`matching`, without development replicates."""
    return [record for record in matching(records, where) if record["replicate"] < DEVELOPMENT]


def matching(records: Iterable[Record], where: Mapping[str, Any]) -> list[Record]:
    """The records whose fields (`classifier`, `optimizer.lr`) are as in `where`."""

    def fits(record: Record, key: str, wanted: Any) -> bool:
        # `classifier` is the record's own name of it, `classifier.width` a value of its config
        first, _, rest = key.partition(".")
        known = record | {"repeat": repeat_of(record)}
        value: Any = known if first in known and (not rest or isinstance(known[first], Mapping)) else record["config"]
        for part in key.split("."):
            if not isinstance(value, Mapping) or part not in value:
                raise UserError(f"where: no record field {key!r}; give one such as classifier, mix or optimizer.lr")
            value = value[part]
        return value in wanted if isinstance(wanted, list) else bool(value == wanted)

    return [record for record in records if all(fits(record, key, wanted) for key, wanted in where.items())]


def groups(records: Sequence[Record]) -> list[Group]:
    """Every table that the records fill, sorted.

    A schedule has a table where some cell is of it alone, since org20 is one cell of two schedules; where all cells
    are of both, the first is taken.
    """
    found: set[Group] = set()
    for context in {_context(record) for record in records}:
        own = [record for record in records if _context(record) == context]
        alone = {record["schedules"][0] for record in own if len(record["schedules"]) == 1}
        for schedule in alone or {own[0]["schedules"][0]}:
            gans = {record["gan"] for record in own if schedule in record["schedules"]}
            dataset, split, scale, augment, real = context
            found |= {Group(dataset, split, scale, schedule, gan, augment, real) for gan in gans - {"none"} or {"none"}}
    return sorted(found, key=_place)


def _place(group: Group) -> tuple[Any, ...]:
    """Before augmented images those that are not, generators side by side."""
    return (*group[:4], group.augment != "none", group.augment, group.gan, group.real_per_class or 0)


def _context(record: Record) -> tuple[str, str, str, str, int | None]:
    return tuple(record[key] for key in ("dataset", "split", "scale", "augment", "real_per_class"))


class Arms:
    """The cells of one group, as arms; refuses what must not stand in one table.

    `metric` is the one that differences are tested in; AP (paper) stands beside it.
    """

    def __init__(
        self,
        collection: Collection,
        group: Group,
        replicates: Sequence[int] | None = None,
        metric: str = TESTED[0],
    ) -> None:
        self.group, self.collection, self.tested = group, collection, collection.tested
        self.metric, self.metrics = metric, (metric, "mean_pr")
        self.records = [record for record in collection.records if group.holds(record)]
        require_one_kind(self.records, group.title)
        self.cells = cells(self.records)
        require_pooled(self.records)
        self.classes: list[str] = self.records[0]["classes"]
        self.replicates = sorted(replicates or {record["replicate"] for record in self.records})
        self.mixes = sorted({record["mix"] for record in self.records}, key=self.order)
        self.classifiers = sorted({record["classifier"] for record in self.records})

    @staticmethod
    def order(mix: str) -> tuple[int, str]:
        """Sorts mixes as tables show them."""
        return (MIXES.index(mix) if mix in MIXES else len(MIXES), mix)

    def arm(self, classifier: str, mix: str) -> Arm:
        own = {
            record["replicate"]: record
            for record in self.cells
            if (record["classifier"], record["mix"]) == (classifier, mix) and record["replicate"] in self.replicates
        }
        trained = {replicate: record for replicate, record in sorted(own.items()) if record["trained"]}
        failed = {replicate: record for replicate, record in sorted(own.items()) if not record["trained"]}
        return Arm(trained, failed, tuple(replicate for replicate in self.replicates if replicate not in own))

    def run(self, record: Record, metric: str, index: int | None = None) -> Run | None:
        """One cell's value of a metric, overall or (`index`) of a class; None where the record lacks it."""
        runs = [self._training(one, metric, index) for one in trainings(record)]
        found = [run for run in runs if run is not None]
        return mean_run(found) if found and len(found) == len(runs) else None

    def _training(self, record: Record, metric: str, index: int | None) -> Run | None:
        if index is None:
            value = record["metrics"].get(metric)
        else:
            value = record["per_class"].get(metric, [None] * len(self.classes))[index]
        if value is None:
            return None
        tested = self.tested.get(record["id"])
        moved = terms(tested, metric, len(self.classes), index) if tested else None
        return Run(value, tested.clusters if tested and moved is not None else None, moved)

    def runs(self, classifier: str, mix: str, metric: str, index: int | None = None) -> dict[int, Run]:
        """By replicate, of trained cells only."""
        trained = self.arm(classifier, mix).trained
        runs = {replicate: self.run(record, metric, index) for replicate, record in trained.items()}
        return {replicate: run for replicate, run in runs.items() if run is not None}

    def estimate(self, classifier: str, mix: str, metric: str, index: int | None = None) -> Estimate | Missing:
        runs = self.runs(classifier, mix, metric, index)
        if not runs:
            return self.arm(classifier, mix).why_empty
        return estimate(list(runs.values()), wilson=metric == "accuracy" and index is None)

    def differences(
        self, classifier: str, mix: str, other: str, metric: str, index: int | None = None
    ) -> dict[int, Run]:
        """`mix` minus `other`, paired by replicate; both must have been trained and tested on one split."""
        one, two = self.arm(classifier, mix).trained, self.arm(classifier, other).trained
        return paired_runs((self, one), (self, two), metric, index)

    def difference(
        self, classifier: str, mix: str, other: str, metric: str, index: int | None = None
    ) -> Estimate | Missing:
        paired = self.differences(classifier, mix, other, metric, index)
        if paired:
            return estimate(list(paired.values()), fraction=False)
        arms = (self.arm(classifier, mix), self.arm(classifier, other))
        return Missing("not trained" if all(arm.cells for arm in arms) else "missing")


def paired_runs(
    one: tuple[Arms, Mapping[int, Record]],
    other: tuple[Arms, Mapping[int, Record]],
    metric: str,
    index: int | None = None,
) -> dict[int, Run]:
    """Cells by replicate minus those of another arm (of another group, too), paired by replicate.

    `UserError` where a pair was tested on different splits or trained in different ways.
    """
    if one[0] is not other[0]:
        require_one_kind([*one[0].records, *other[0].records], f"{one[0].group.title}; {other[0].group.title}")
    paired: dict[int, Run] = {}
    for replicate in sorted(set(one[1]) & set(other[1])):
        cells = one[1][replicate], other[1][replicate]
        if cells[0]["ids"].get("split") != cells[1]["ids"].get("split"):
            mixes = f"{cells[0]['mix']} and {cells[1]['mix']}"
            raise UserError(
                f"cells {cells[0]['id']} and {cells[1]['id']}: replicate {replicate} of {mixes} have different splits"
            )
        _require_trained_alike(*cells)
        _require_same_images(
            *((of[0].tested.get(cell["id"]), cell) for of, cell in zip((one, other), cells, strict=True))
        )
        first, second = one[0].run(cells[0], metric, index), other[0].run(cells[1], metric, index)
        if first is not None and second is not None:
            paired[replicate] = difference(first, second)
    return paired


def flipped_sums(
    one: tuple[Arms, Mapping[int, Record]],
    other: tuple[Arms, Mapping[int, Record]],
    metric: str,
    replicates: Iterable[int],
) -> np.ndarray | None:
    """What each scene adds to the mean difference of `paired_runs` over these replicates, (G,); None without predictions.

    Of a cell that was trained more than once, the mean over all pairs of trainings.
    """
    clusters, parts = [], []
    for replicate in replicates:
        answers = [
            [arms.tested.get(record["id"]) for record in trainings(cells[replicate])] for arms, cells in (one, other)
        ]
        pairs = [(a, b) for a in answers[0] for b in answers[1] if a is not None and b is not None]
        found = [contributions(a, b, metric, len(one[0].classes)) for a, b in pairs if len(a.label) == len(b.label)]
        known = [part for part in found if part is not None]
        if not known or len(known) < len(answers[0]) * len(answers[1]):
            return None
        clusters.append(pairs[0][0].clusters)
        parts.append(np.mean(known, axis=0))
    return scene_sums(clusters, parts) if parts else None


def _require_trained_alike(one: Record, other: Record) -> None:
    """What a difference is said to be of, the mix, must be all that two cells differ in."""
    keys = sorted(set(differing(way(one), way(other))))
    if keys:
        cells = " and ".join(f"{record['id']} ({record['mix']})" for record in (one, other))
        raise UserError(
            f"cells {cells} of replicate {one['replicate']} were trained in different ways ({', '.join(keys[:4])}), so nobody "
            f"knows what their difference is of; {ADVICE}"
        )


def mean_of_runs(by_arm: Sequence[Mapping[int, Run]]) -> dict[int, Run]:
    """The mean over arms within each replicate that all of them have; the images are the same in all."""
    shared = sorted(set.intersection(*(set(runs) for runs in by_arm))) if by_arm else []
    return {replicate: mean_run([runs[replicate] for runs in by_arm]) for replicate in shared}


def _require_same_images(one: tuple[Answers | None, Record], other: tuple[Answers | None, Record]) -> None:
    """Answers are paired by their place, in the order of names."""
    if one[0] is not None and other[0] is not None and not np.array_equal(one[0].image, other[0].image):
        raise UserError(
            f"cells {one[1]['id']} and {other[1]['id']}: the test images have other names in one than in the other; were they "
            "renamed in between? Then train the older cells again"
        )


def require_one_kind(records: Sequence[Record], title: str) -> None:
    """`UserError` where cells are not of one recipe, one data set and one list of classes."""
    _require_one(records, "recipe", lambda record: record["recipe"], title)
    _require_one(records, DATA_SET, lambda record: record["ids"].get("dataset"), title)
    _require_one(records, "list of classes", lambda record: tuple(record["classes"]), title)


def _require_one(records: Sequence[Record], what: str, of: Any, title: str) -> None:
    by_value: dict[Any, list[str]] = {}
    for record in records:
        by_value.setdefault(of(record), []).append(record["id"])
    if len(by_value) > 1:
        named = "; ".join(f"{value}: {', '.join(ids[:3])}" for value, ids in sorted(by_value.items(), key=str))
        advice = ADVICE
        if what == DATA_SET:
            newest = max(records, key=lambda record: str(record.get("made", {}).get("utc", "")))["ids"].get("dataset")
            advice = (
                f"an image or a label was changed in between: choose one, such as 'where={{ids.dataset: {newest}}}'"
            )
        raise UserError(f"one table must not mix cells of more than one {what} ({title}): {named}; {advice}")
