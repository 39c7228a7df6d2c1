"""The files of the simulation of coverage: summary.csv, figure, README.md and a table for the terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from steeldefect.report.figures import COLOURS, MARKERS, STYLE, save
from steeldefect.report.provenance import write_kept
from steeldefect.report.simulation import (
    CLUSTERED,
    COLUMNS,
    EFFECTS,
    ESTIMANDS,
    FEWER,
    GAIN,
    METHODS,
    RUNS,
    coverage,
    scenarios,
)
from steeldefect.report.tables import to_csv
from steeldefect.runs.environment import command_line, git_commit, machine, versions
from steeldefect.runs.errors import require

WANTED, WIDEST = 0.93, 1.5  # protocol, "Intervals": least coverage, and largest width in oracle's widths
GATED = ("grouped_cv", "grouped")  # the splits of real studies; `crossed` shows what goes wrong without them
HEAD = ("splits", "runs", "method", *ESTIMANDS)
ROUNDED = ("coverage_narrow", "coverage_low", "coverage_high", "width", "oracle_width", "width_ratio")


def write_coverage(output: Path, n_studies: int, seed: int) -> Table:
    """Simulates every scenario and writes the folder `output`; the same seed gives the same bytes but for provenance."""
    require(
        isinstance(n_studies, int) and n_studies >= 2,
        f"studies={n_studies}: must be a whole number from 2 up; 2000 give coverage to half a point",
    )
    require(isinstance(seed, int) and seed >= 0, f"seed={seed}: must be a whole number from 0 up")
    made_by = f"`{command_line()}`, commit {git_commit()}"  # as it was when the work began
    rows = [row for scenario in scenarios() for row in coverage(scenario, n_studies, seed)]
    output.mkdir(parents=True, exist_ok=True)
    printed = [row | {key: f"{row[key]:.6g}" for key in ROUNDED} for row in rows]
    (output / "summary.csv").write_text(to_csv(COLUMNS, printed))
    coverage_figure(rows, output / "coverage")
    _readme(rows, n_studies, made_by, output / "README.md")
    return _table(rows)


def extremes(
    rows: Sequence[Mapping[str, Any]], method: str, designs: Sequence[str], n_runs: Sequence[int]
) -> list[tuple[str, float, float]]:
    """Estimand, lowest and highest coverage of a method over the scenarios of these designs and numbers of runs."""
    found = []
    for estimand in ESTIMANDS:
        own = [row for row in _of(rows, estimand, method) if row["design"] in designs and row["n_runs"] in n_runs]
        found.append((estimand, min(row["coverage"] for row in own), max(row["coverage"] for row in own)))
    return found


def coverage_figure(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """A line a scenario, a panel an estimand, a marker a method; at the right the width in oracle's widths."""
    names = [scenario.title for scenario in scenarios()]
    with matplotlib.rc_context({**STYLE, "font.size": 8}):
        figure = Figure(figsize=(10.5, 0.19 * len(names) + 1.6), layout="constrained")
        panels = figure.subplots(1, len(ESTIMANDS) + 1, sharey=True)
        for panel, estimand in zip(panels, ESTIMANDS, strict=False):
            for number, method in enumerate(METHODS):
                own = _of(rows, estimand, method)
                values = 100 * np.array([row["coverage"] for row in own])
                style = {"color": COLOURS[number], "marker": MARKERS[number], "markersize": 4}
                panel.plot(values, np.arange(len(own)), linestyle="none", label=method, **style)
            panel.axvline(95, color="black", linewidth=0.8)
            panel.axvline(100 * WANTED, color="black", linewidth=0.8, linestyle=":")
            panel.set_xlim(15, 101)
            panel.set_title(estimand)
            panel.set_xlabel("coverage, %")
        for number, estimand in enumerate(ESTIMANDS):
            values = np.array([row["width_ratio"] for row in _of(rows, estimand, CLUSTERED)])
            style = {"color": COLOURS[0], "marker": "ox+"[number], "markersize": 4}
            panels[-1].plot(values, np.arange(len(values)), linestyle="none", label=estimand, **style)
        panels[-1].axvline(WIDEST, color="black", linewidth=0.8, linestyle=":")
        panels[-1].set_title(f"width of {CLUSTERED}")
        panels[-1].set_xlabel("oracle's widths")
        panels[-1].legend(frameon=False, fontsize=7)
        panels[0].set_yticks(range(len(names)), names)
        panels[0].invert_yaxis()
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(METHODS), frameon=False)
        save(figure, path)


def _of(rows: Sequence[Mapping[str, Any]], estimand: str, method: str) -> list[Any]:
    return [row for row in rows if (row["estimand"], row["method"]) == (estimand, method)]


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title=f"Coverage of 95 % intervals, lowest to highest over scenarios, {rows[0]['n_studies']} studies")
    for column in HEAD:
        table.add_column(column)
    for line in _lines(rows):
        table.add_row(*line)
    return table


def _lines(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    lines = []
    parts = [(GATED, RUNS), (("crossed",), RUNS), *((GATED, (n,)) for n in reversed(FEWER))]
    for designs, n_runs in parts:
        for method in METHODS:
            found = extremes(rows, method, designs, n_runs)
            spans = [f"{100 * low:.1f} to {100 * high:.1f} %" for _, low, high in found]
            lines.append((" and ".join(designs), " and ".join(map(str, n_runs)), method, *spans))
    return lines


def _narrow(rows: Sequence[Mapping[str, Any]]) -> str:
    own = [row for row in rows if row["method"] == CLUSTERED and row["design"] in GATED]
    counts = sorted({row["n_runs"] for row in own})
    lowest = {n: min(row["coverage_narrow"] for row in own if row["n_runs"] == n) for n in counts}
    return ", ".join(f"{n} runs {100 * value:.0f} %" for n, value in lowest.items())


def _readme(rows: Sequence[Mapping[str, Any]], n_studies: int, made_by: str, path: Path) -> None:
    ours = [row for row in rows if row["method"] == CLUSTERED and row["design"] in GATED and row["n_runs"] in RUNS]
    short = [row for row in ours if row["coverage"] < WANTED]
    wide = [row for row in ours if row["width_ratio"] > WIDEST]
    effects = "; ".join(
        f"*{name}*: " + ", ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in sds.items())
        for name, sds in EFFECTS.items()
    )
    gains = " and ".join(f"{100 * gain:g} points at {100 * accuracy:g} %" for accuracy, gain in GAIN.items())
    splits, runs = " and ".join(GATED), " and ".join(map(str, RUNS))
    lines = [
        "# Coverage of the report's intervals\n",
        f"{n_studies} synthetic studies of known truth in each of {len(scenarios())} scenarios. The two-way clustered "
        f"interval under the splits of real studies, {splits}, with {runs} runs: {len(short)} of {len(ours)} estimands under "
        f"{100 * WANTED:g} % coverage, {len(wide)} wider than {WIDEST:g} times the oracle's interval (the mean +- 1.96 "
        f"true standard deviations; lowest {min(row['width_ratio'] for row in ours):.2f}, highest "
        f"{max(row['width_ratio'] for row in ours):.2f}). Lowest and highest coverage over the scenarios:\n",
        f"| {' | '.join(HEAD)} |\n|{' --- |' * len(HEAD)}",
        *(f"| {' | '.join(line)} |" for line in _lines(rows)),
        "",
        "![Coverage of each method in each scenario](coverage.svg)\n",
        "Scenes have the sizes of NEU-CLS's (1 to 102 images), tests are drawn by the project's own splits; `crossed` is "
        "two splits with half of the runs each, as a pooled t over crossed seeds is fed. An image is answered right where "
        "a normal sum passes a threshold: effects of scenes, images and runs that all arms share, of scenes and runs on "
        f"each arm, and a residual of 1. Standard deviations: {effects}. Estimands: the accuracy of an arm; its "
        f"difference to a better one ({gains}); to one that is as good. *t over runs*: the paired t test over replicates. "
        "*binomial, pooled images*: every answer an independent image, arms unpaired. Run effects are independent here: "
        "what overlapping training sets share is in no interval.\n",
        "How wide an interval comes out is itself a matter of luck, the more so the fewer runs there are. Coverage in the "
        f"third of the studies with the narrowest intervals, lowest over scenarios and estimands: {_narrow(rows)}.\n",
        f"Made by {made_by}, {machine()}, numpy {versions().get('numpy', '')}; "
        "[summary.csv](summary.csv), one figure a row.\n",
    ]
    write_kept(lines, path)
