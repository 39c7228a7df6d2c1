"""What is done, running, failed or dead under artifacts, and how long what is begun will still take."""

import os
import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from steeldefect.report.costs import Costs, span
from steeldefect.runs.errors import UserError
from steeldefect.runs.store import KINDS, MANIFEST, read_json

STATES = ("done", "running", "failed", "dead")
COLOURS = {"done": "green", "running": "cyan", "failed": "red", "dead": "yellow"}


class Row(NamedTuple):
    kind: str
    id: str
    state: str
    detail: str
    identity: Mapping[str, Any] | None = None  # of work that has left a note of what it is
    elapsed: float = 0.0  # seconds since a running try began

    def left(self, costs: Costs) -> float | None:
        """Seconds that it will still take; None where nothing of its kind was finished yet."""
        whole = None if self.identity is None else costs.estimate(self.identity)
        return None if whole is None else max(0.0, whole - self.elapsed)


def read(artifacts: Path) -> list[Row]:
    """Every artifact of every kind, finished or not; unfinished work lies in `.<id>.partial`."""
    if not artifacts.is_dir():
        raise UserError(
            f"artifacts={artifacts}: no such folder; nothing was made yet, or artifacts= names another place"
        )
    rows = []
    for kind in KINDS:
        folder = artifacts / kind
        finished = {path.parent.name for path in folder.glob(f"[!.]*/{MANIFEST}")}
        rows += [Row(kind, identifier, "done", "") for identifier in sorted(finished)]
        for partial in sorted(folder.glob(".*.partial")):
            identifier = partial.name[1 : -len(".partial")]
            if identifier not in finished:
                rows.append(Row(kind, identifier, *_unfinished(partial)))
    return rows


def _unfinished(partial: Path) -> tuple[str, str, Mapping[str, Any] | None, float]:
    """State, detail, identity and seconds since the start of work that has no manifest."""
    try:
        if (partial / "failed.json").is_file():
            failed = read_json(partial / "failed.json")
            # the command of a MissingArtifact stands on a line of its own
            told = " ".join(f"{failed.get('time', '')} {failed.get('error', '')}".split())
            return "failed", told, None, 0.0
        running = read_json(partial / "running.json")
        host, pid, started = running["host"], int(running["pid"]), running.get("started", "")
        identity = running.get("identity")
    except (UserError, KeyError, TypeError, ValueError):
        return "dead", "left without a note of who worked on it; the next run goes on with it", None, 0.0
    if host != socket.gethostname():
        told = f"process {pid} on {host} since {started} (another machine: not checked)"
        return "running", told, identity, _seconds_since(started)
    if _alive(pid):
        return "running", f"process {pid} since {started}", identity, _seconds_since(started)
    return "dead", f"process {pid}, started {started}, is gone; the next run goes on with it", identity, 0.0


def _seconds_since(started: str) -> float:
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(started)).total_seconds()
    except (ValueError, TypeError):
        return 0.0


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's process, but a living one
        return True
    return True


def tables(rows: Sequence[Row], costs: Costs | None = None) -> list[Table]:
    """Counts by kind, and below them each artifact that is not done, with the time it will still take."""
    counts = Counter((row.kind, row.state) for row in rows)
    overview = Table(title="artifacts")
    overview.add_column("kind")
    for state in STATES:
        overview.add_column(state, justify="right", style=COLOURS[state])
    for kind in KINDS:
        overview.add_row(kind, *(str(counts[kind, state]) for state in STATES))
    unfinished = [row for row in rows if row.state != "done"]
    if not unfinished:
        return [overview]
    details = Table(title="not done")
    for column in ("kind", "id", "state", "detail", "time left"):
        details.add_column(column, overflow="fold")
    for row in unfinished:
        left = span(row.left(costs)) if costs and row.state != "failed" else ""
        detail = row.detail.replace("[", r"\[")
        details.add_row(row.kind, row.id, f"[{COLOURS[row.state]}]{row.state}[/]", detail, left)
    return [overview, details]
