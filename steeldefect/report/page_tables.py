"""The tables of a report as the page shows them: a header, and cells that know their records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from steeldefect.report.arms import Arms
from steeldefect.report.collect import Record
from steeldefect.report.contrasts import ContrastTable
from steeldefect.report.differences import HEAD, Contrast
from steeldefect.report.low_data import EXCHANGE_HEAD, ExchangeTable
from steeldefect.report.provenance import CELL_COLUMNS, Shown, cell_rows
from steeldefect.report.repeats import trainings
from steeldefect.report.tables import BASELINE, Entry, Table, entry


class Cell(NamedTuple):
    """`text` is what a column is sorted by; records: ids of the cells behind the figure."""

    text: str
    rest: str = ""
    paper: str = ""
    records: tuple[str, ...] = ()
    classifier: str = ""
    mix: str = ""


@dataclass(frozen=True)
class View:
    """Rows begin with their header."""

    title: str
    heading: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    said: str = ""
    note: str = ""
    lead: str = ""


class Confusion(NamedTuple):
    """One arm's matrix, summed over its trained runs, in percent of the true class; row and column as `classes`."""

    classifier: str
    mix: str
    n_runs: int
    classes: Sequence[str]
    shares: Sequence[Sequence[float]]
    records: tuple[str, ...]


def view(table: Shown, records: Sequence[Record]) -> View:
    """Any table of the report, as the page shows it."""
    if isinstance(table, ContrastTable):
        return _of_contrasts(table, records)
    if isinstance(table, ExchangeTable):
        return _of_exchange(table, records)
    if isinstance(table, Table):
        rows = tuple(
            (Cell(name), *(_of_entry(one, table.paper_label) for one in entries)) for name, entries in table.rows
        )
        return View(table.title, table.heading, (table.corner, *table.columns), rows)
    raise TypeError(f"no view of {type(table).__name__}")


def _of_entry(one: Entry, paper_label: str) -> Cell:
    first, _, rest = one.text("\n").partition("\n")
    classifier, mix = one.of[0] if one.of else ("", "")
    paper = f"{paper_label} {one.paper}" if one.paper else ""
    return Cell(first, rest.replace("\n", " "), paper, one.records, classifier, mix)


def _of_contrasts(table: ContrastTable, records: Sequence[Record]) -> View:
    """The primary hypothesis first."""
    rows = []
    for one in table.listed:
        # a difference that has no figure leads to the cells that there are
        own = one.cells or {r["id"] for r in records if one.group.holds(r) and _is_of(r, one)}
        ids = tuple(record["id"] for record in records if record["id"] in own)
        line = one.line()
        first = Cell(f"{line[0]} (primary)" if one.primary else line[0], classifier=one.classifier, mix=one.mix)
        cells = [Cell(text, "", "", ids if text else (), one.classifier, one.mix) for text in line[1:]]
        figure = Entry(one.found, "", True, one.not_trained, one.absent, ((one.classifier, one.mix),), ids)
        # the interval under its difference
        cells[HEAD.index("points") - 1] = _of_entry(figure, "")
        rows.append((first, *cells))
    lead = "Primary hypothesis." if table.primary else "By the rule of the primary hypothesis:"
    return View(table.title, table.heading, HEAD, tuple(rows), table.said, table.note, lead)


def _is_of(record: Record, one: Contrast) -> bool:
    return record["classifier"] == one.classifier and record["mix"] in (one.mix, one.arm)


def _of_exchange(table: ExchangeTable, records: Sequence[Record]) -> View:
    rows = []
    for (group, classifier, mix, *_), line in zip(table.rows, table.lines, strict=True):
        own = [r for r in records if group.holds(r) and (r["classifier"], r["mix"]) == (classifier, mix)]
        ids = tuple(record["id"] for record in own)
        first = Cell(line[0], classifier=classifier, mix=mix)
        rows.append((first, *(Cell(text, "", "", ids, classifier, mix) for text in line[1:])))
    return View(table.title, table.heading, EXCHANGE_HEAD, tuple(rows))


def headline(arms: Arms) -> list[tuple[str, Cell]]:
    """The tested metric of org20 less org100, by classifier; empty where the records hold no org20."""
    if BASELINE not in arms.mixes or "org20" not in arms.mixes:
        return []
    found = []
    for classifier in arms.classifiers:
        difference = arms.difference(classifier, "org20", BASELINE, arms.metric)
        one = entry(arms, [(classifier, "org20"), (classifier, BASELINE)], difference)
        found.append((classifier, _of_entry(one, "")))
    return found


def confusions(arms: Arms) -> list[Confusion]:
    """Of every arm that trained."""
    found = []
    for classifier in arms.classifiers:
        for mix in arms.mixes:
            trained = list(arms.arm(classifier, mix).trained.values())
            if trained:
                counts = np.sum([record["confusion"] for record in trained], axis=0)
                shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
                ids = tuple(one["id"] for record in trained for one in trainings(record))
                found.append(Confusion(classifier, mix, len(trained), arms.classes, shares.round(1).tolist(), ids))
    return found


def cells_view(records: Sequence[Record]) -> View:
    """One row a cell, each leading to its record."""
    rows = []
    for record, row in zip(records, cell_rows(records), strict=True):
        of = {"classifier": record["classifier"], "mix": record["mix"]}
        rows.append((Cell(row[0], records=(record["id"],), **of), *(Cell(text, **of) for text in row[1:])))
    return View("Cells", "One row a cell; its id leads to the record.", CELL_COLUMNS, tuple(rows))


def plain_view(title: str, heading: str, rows: Sequence[Mapping[str, str]]) -> View:
    """Rows of a CSV file as they are."""
    return View(title, heading, tuple(rows[0]), tuple(tuple(Cell(text) for text in row.values()) for row in rows))
