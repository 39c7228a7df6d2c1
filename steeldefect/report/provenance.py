"""What made the records: ids, commands, commits, machines, hours."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from rich.table import Table as RichTable

from steeldefect.report import repeats
from steeldefect.report.arms import Arms, Group, Missing
from steeldefect.report.collect import Collection, Record
from steeldefect.report.contrasts import ContrastTable
from steeldefect.report.statistics import Estimate
from steeldefect.report.tables import BASELINE, TITLES
from steeldefect.runs.portable import without_path


class Shown(Protocol):
    """A table as the README prints it."""

    @property
    def title(self) -> str: ...

    @property
    def heading(self) -> str: ...

    def markdown(self) -> str: ...

    def rich(self) -> RichTable: ...


KEPT = "<!-- Written by hand below; kept when the report is written again. -->"
SHOWN_COMMANDS = 12
CELL_COLUMNS = ("cell", "classifier", "mix", "gan", "replicate", "schedule", "updates", "accuracy", "split", "bank")


def provenance(collection: Collection) -> str:
    lines = ["## Provenance\n", *(f"- {fact}" for fact in facts(collection)), "", *_commands(collection.records)]
    if collection.skipped:
        lines += [f"**{len(collection.skipped)} records could not be read and are left out:**\n"]
        lines += [f"- {line}" for line in collection.skipped]
    return "\n".join(lines) + "\n"


def facts(collection: Collection) -> list[str]:
    """How many cells, hours, machines, versions, commits, data sets; a sentence each."""
    records = collection.records
    trained = sum(record["trained"] for record in records)
    again = repeats.fact(records)
    return [
        f"{repeats.counted(records)}: {trained} trained, {len(records) - trained} not trained, "
        f"{sum(record['id'] in collection.tested for record in records)} with predictions.",
        *([again] if again else []),
        f"{hours(records)}",
        f"Machines: {'; '.join(_all(_environment(record, 'machine') for record in records))}; "
        f"device {', '.join(_all(_environment(record, 'device') for record in records))}; "
        f"precision {', '.join(_all(_environment(record, 'precision') for record in records))}.",
        f"Versions: torch {', '.join(_all(_environment(record, 'torch') for record in records))}; "
        f"python {', '.join(_all(_environment(record, 'python') for record in records))}.",
        f"Commits: {', '.join(commits(records))}; recipe {', '.join(_all(record['recipe'] for record in records))}.",
        f"Test images that show the surface of a training image: {_overlap(records)}.",
        f"Data sets: {', '.join(_all(_data(record) for record in records))}.",
    ]


def cells_table(collection: Collection) -> str:
    """One line a cell: what it is, what it stands on."""
    lines = ["## Cells\n", f"| {' | '.join(CELL_COLUMNS)} |", f"|{' --- |' * len(CELL_COLUMNS)}"]
    lines += [f"| {' | '.join(row)} |" for row in cell_rows(collection.records)]
    return "\n".join(lines) + "\n"


def cell_rows(records: Iterable[Record]) -> list[tuple[str, ...]]:
    """As `CELL_COLUMNS`, one a cell."""
    rows = []
    for record in records:
        updates = record.get("updates", {})
        shown = f"{100 * record['metrics']['accuracy']:.1f}" if record["trained"] else "not trained"
        values = [record["id"], record["classifier"], record["mix"], record["gan"], _replicate(record)]
        values += [", ".join(record["schedules"]), " + ".join(str(updates[phase]) for phase in updates), shown]
        values += [record["ids"].get("split") or "", record["ids"].get("bank") or ""]
        rows.append(tuple(str(value) for value in values))
    return rows


def _replicate(record: Record) -> str:
    again = repeats.repeat_of(record)
    return f"{record['replicate']}{f', repeat {again}' if again else ''}"


def hours(records: Sequence[Record]) -> str:
    """Compute of the cells and, once each, of the stages that they share."""
    seconds = {f"cell {record['id']}": record["cost"].get("seconds", 0.0) for record in records}
    for record in records:
        if record["ids"].get("initial"):
            seconds[f"initial {record['ids']['initial']}"] = record["cost"].get("seconds_initial", 0.0)
        for stage in ("gan", "bank"):
            made = record.get("upstream", {}).get(stage, {})
            if "seconds" in made:
                seconds[f"{stage} {record['ids'][stage]}"] = made["seconds"]
    parts = {
        kind: sum(value for name, value in seconds.items() if name.startswith(kind))
        for kind in ("cell", "initial", "gan", "bank")
    }
    words = {"cell": "cells", "initial": "their initial phases", "gan": "GANs", "bank": "banks"}
    listed = ", ".join(f"{words[kind]} {value / 3600:.2f}" for kind, value in parts.items() if value)
    return f"Hours of compute: {sum(parts.values()) / 3600:.2f} ({listed or 'not recorded'})."


def commits(records: Sequence[Record]) -> list[str]:
    made = [record.get("upstream", {}).get(stage, {}).get("commit") for record in records for stage in ("gan", "bank")]
    return _all([*(_environment(record, "commit") for record in records), *(commit for commit in made if commit)])


def commands(records: Sequence[Record]) -> list[str]:
    """Every command that made the records and the stages that they share, once."""
    found = [without_path(str(record["environment"].get("command", ""))) for record in records]
    found += [made.get("command", "") for record in records for made in record.get("upstream", {}).values()]
    return _all(command for command in found if command)


def _commands(records: Sequence[Record]) -> list[str]:
    found = commands(records)
    if not found:
        return []
    more = [f"# and {len(found) - SHOWN_COMMANDS} more, in records.jsonl"] if len(found) > SHOWN_COMMANDS else []
    return ["Commands:\n", "```", *found[:SHOWN_COMMANDS], *more, "```", ""]


def _overlap(records: Sequence[Record]) -> str:
    shares = [record["counts"].get("test_overlapping_share") for record in records]
    known = [share for share in shares if share is not None]
    if not known:
        return "not known (no scenes)"
    low, high = 100 * min(known), 100 * max(known)
    return f"{low:.0f} %" if round(low) == round(high) else f"{low:.0f} to {high:.0f} %"


def _data(record: Record) -> str:
    return f"{record['dataset']} {record['ids'].get('dataset', '')}".strip()


def _environment(record: Record, key: str) -> str:
    return str(record["environment"].get(key, "not recorded"))


def _all(values: Iterable[Any]) -> list[str]:
    return sorted({str(value) for value in values})


def readme(
    study: str, collection: Collection, tables: Sequence[Arms], shown: Sequence[Shown], path: Path, asked: str
) -> None:
    """README.md of a study; what was written by hand below the marker stays. `asked`: what chose its cells, as overrides."""
    replicates = sorted({record["replicate"] for record in collection.records})
    own = f"[{study.replace('_', ' ')}]({study}.md), " if study in ("controls", "low_data") else ""
    lines = [
        f"# {study}{', cells trained more than once' if repeats.fact(collection.records) else ''}\n",
        "\n".join(f"- {sentence}" for sentence in findings(tables, shown)) + "\n",
        f"n: {repeats.counted(collection.records)}, replicates {', '.join(map(str, replicates))}. Files: "
        "[report](report.md), [Table 2](table2.md), [Table 3](table3.md), [differences](contrasts.md), "
        f"{own}"
        "[summary.csv](summary.csv) (long format, fractions), records.jsonl, "
        "predictions.csv (class given to each test image, by cell).\n",
        *(f"## {table.title}\n\n{table.heading}\n\n{table.markdown()}\n" for table in shown),
        provenance(collection),
        f"Written by `python experiments/report.py source=DIR output=DIR study={study}{asked and ' '}{asked}`.\n",
    ]
    write_kept(lines, path)


def write_kept(lines: Sequence[str], path: Path) -> None:
    """The lines, and below the marker what was written there by hand before."""
    by_hand = path.read_text().partition(KEPT)[2] if path.exists() else "\n"
    path.write_text("\n".join([*lines, KEPT]) + by_hand)


def in_points(found: Estimate | Missing) -> str:
    """`-1.6 points, 95 % interval -3.0 to -0.2, n=6` of a difference, or why there is none."""
    if isinstance(found, Missing):
        return found.why
    interval = ""
    if found.low is not None and found.high is not None:
        interval = f", 95 % interval {100 * found.low:+.1f} to {100 * found.high:+.1f}"
    return f"{100 * found.mean:+.1f} points{interval}, n={found.n_runs}"


def findings(tables: Sequence[Arms], shown: Iterable[Shown]) -> list[str]:
    """The answers first; of a group that has none what each classifier gained or lost by org20 against org100."""
    answers = {table.group: table.said for table in shown if isinstance(table, ContrastTable) and table.said}
    several = len({arms.group[:3] for arms in tables}) > 1  # data sets, splits or scales

    def name(group: Group) -> str:
        return group.title if several else group.short

    found = [f"**{name(group)}**: {said}" for group, said in answers.items()]
    for arms in tables:
        said = [f"{c} {in_points(arms.difference(c, 'org20', BASELINE, arms.metric))}" for c in arms.classifiers]
        if said and arms.group not in answers:
            found.append(f"**{name(arms.group)}**: org20 less org100 in {TITLES[arms.metric]}: {'; '.join(said)}.")
    return found
