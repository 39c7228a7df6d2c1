"""What a study holds: its cells, what they share, what is done, and what the rest will take."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from steeldefect.report.costs import Costs, span
from steeldefect.report.status import COLOURS, STATES, Row

STAGES = ("gans", "banks", "initials", "cells", "trials")
ALL_STATES = (*STATES, "missing")
ARM = ("classifier", "mix", "gan", "augment", "real_per_class", "schedule", "lr")
Stage = tuple[str, str]  # kind and id


@dataclass(frozen=True)
class Planned:
    """One cell of a study: its arm, its replicate, and the identity of each stage that it needs, itself last."""

    arm: tuple[str, ...]
    replicate: int
    stages: Mapping[Stage, Mapping[str, Any]]
    gan_updates: int | None = None

    @property
    def cell(self) -> Stage:
        return list(self.stages)[-1]


class Plan:
    """The cells of a study against what lies in the store; a cell that is in two of its arms is counted once."""

    def __init__(self, cells: Sequence[Planned], rows: Sequence[Row], costs: Costs) -> None:
        self.cells, self.costs = cells, costs
        self.rows = {(row.kind, row.id): row for row in rows}
        self.updates = {
            stage: cell.gan_updates
            for cell in cells
            for stage in cell.stages
            if stage[0] == "gans" and cell.gan_updates
        }
        self.identities = {stage: identity for cell in cells for stage, identity in cell.stages.items()}

    def state(self, stage: Stage) -> str:
        return self.rows[stage].state if stage in self.rows else "missing"

    def needed(self) -> list[Stage]:
        """Every stage that is still to be made: nothing is made for a cell that is done."""
        open_cells = [cell for cell in self.cells if self.state(cell.cell) != "done"]
        todo = list({stage: None for cell in open_cells for stage in cell.stages if self.state(stage) != "done"})
        # a generator is needed for its bank alone
        generators = {self.identities[stage]["gan"] for stage in todo if stage[0] == "banks"}
        return [stage for stage in todo if stage[0] != "gans" or stage[1] in generators]

    def left(self, stages: Sequence[Stage]) -> tuple[float, int]:
        """Seconds that these stages will take, and how many of them nobody can say it of."""
        known, unknown = 0.0, 0
        for stage in stages:
            row = self.rows.get(stage)
            whole = self.costs.estimate(self.identities[stage], self.updates.get(stage))
            known += 0.0 if whole is None else max(0.0, whole - (row.elapsed if row else 0.0))
            unknown += whole is None
        return known, unknown

    def tables(self) -> list[Table]:
        return [self._arms(), self._stages()]

    def _arms(self) -> Table:
        """One line an arm; what all arms have in common is left out."""
        arms = sorted({cell.arm for cell in self.cells}, key=[cell.arm for cell in self.cells].index)
        shown = [i for i in range(len(ARM)) if len({arm[i] for arm in arms}) > 1 or ARM[i] in ("classifier", "mix")]
        table = Table(title="cells by arm")
        for column in (*(ARM[i] for i in shown), "replicates", *ALL_STATES, "time left"):
            table.add_column(column, style=COLOURS.get(column))
        for arm in arms:
            own = [cell for cell in self.cells if cell.arm == arm]
            states = Counter(self.state(cell.cell) for cell in own)
            todo = [cell.cell for cell in own if self.state(cell.cell) != "done"]
            replicates = ",".join(str(r) for r in sorted({cell.replicate for cell in own}))
            counts = (str(states[state]) for state in ALL_STATES)
            table.add_row(*(arm[i] for i in shown), replicates, *counts, _told(*self.left(todo)))
        return table

    def _stages(self) -> Table:
        table = Table(title="stages, each made once")
        for column in ("kind", "distinct", "for cells", *ALL_STATES, "to make", "time left"):
            table.add_column(column, style=COLOURS.get(column))
        needed = self.needed()
        for kind in STAGES:
            distinct = [stage for stage in self.identities if stage[0] == kind]
            if not distinct:
                continue
            uses = sum(any(stage[0] == kind for stage in cell.stages) for cell in self.cells)
            states = Counter(self.state(stage) for stage in distinct)
            todo = [stage for stage in needed if stage[0] == kind]
            counts = (str(states[state]) for state in ALL_STATES)
            table.add_row(kind, str(len(distinct)), str(uses), *counts, str(len(todo)), _told(*self.left(todo)))
        return table

    def total(self) -> str:
        needed = self.needed()
        if not needed:
            return "everything is made"
        return f"{len(needed)} stages to make, one after the other: {_told(*self.left(needed))}"


def _told(seconds: float, unknown: int) -> str:
    if not unknown:
        return span(seconds) if seconds else ""
    return f"{span(seconds)} and {unknown} unknown" if seconds else "unknown"
