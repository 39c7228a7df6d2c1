"""How time grows: a step's with batch, pixels and width, a study's with its cells."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import torch
from matplotlib.figure import Figure

from steeldefect.bench.adversarial import our_step
from steeldefect.bench.classifier import bare_step
from steeldefect.bench.timing import Row, timed
from steeldefect.bench.verbs import run_verb, sweep_command
from steeldefect.report.figures import COLOURS, MARKERS, STYLE, save

LABELS = {"batch": "images a batch", "pixels": "pixels a side", "width": "width, as a share", "cells": "cells"}


def growth_rows(
    settings: Mapping[str, Any],
    classes: int,
    precisions: tuple[str, str],
    options: Mapping[str, Any],
    device: torch.device,
) -> list[Row]:
    """`growth_<step>_<axis>_<value>`: seconds of a bare step, one axis moved at a time; the least of `pairs` goes."""
    grid = options["growth"]
    rows = []
    for axis, value, gan in _gans(settings["gan"], grid):
        rows.append(_least("adversarial", axis, value, our_step(gan, classes, precisions[0], device), options, device))
    for axis, value, own in _classifiers(settings, grid):
        rows.append(_least("classifier", axis, value, bare_step(own, classes, precisions[1], device), options, device))
    return rows


def _least(
    step: str, axis: str, value: float, call: Callable[[], None], options: Mapping[str, Any], device: torch.device
) -> Row:
    side = timed(call, options["growth"]["steps"], device)
    side()
    return Row(f"growth_{step}_{axis}_{value:g}", min(side() for _ in range(options["pairs"])), None, "s", None)


def _gans(gan: Mapping[str, Any], grid: Mapping[str, Any]) -> Iterator[tuple[str, float, dict[str, Any]]]:
    for batch in grid["batch"]:
        yield "batch", batch, {**gan, "batch_size": batch}
    for size in grid["pixels"]:
        yield "pixels", size, {**gan, "image_size": size}
    for width in grid["width"]:
        scaled = {
            part: {**gan[part], "base_channels": max(1, round(width * gan[part]["base_channels"]))}
            for part in ("generator", "discriminator")
        }
        yield "width", width, {**gan, **scaled}


def _classifiers(settings: Mapping[str, Any], grid: Mapping[str, Any]) -> Iterator[tuple[str, float, dict[str, Any]]]:
    for batch in grid["batch"]:
        yield "batch", batch, {**settings, "optimizer": {**settings["optimizer"], "batch_size": batch}}
    for size in grid["pixels"]:
        yield "pixels", size, {**settings, "classifier": {**settings["classifier"], "image_size": size}}
    for width in grid["width"] if settings["classifier"]["name"] == "mobilenet_v2" else ():
        yield "width", width, {**settings, "classifier": {**settings["classifier"], "width": width}}


def study_rows(overrides: Sequence[str], options: Mapping[str, Any], work: Path) -> list[Row]:
    """`growth_study_cells_<n>`: seconds of a fresh sweep of n small cells, its start included."""
    artifacts = work / "artifacts"
    given = [*overrides, "logger=csv", f"artifacts={artifacts}"]
    # the decoded images are there, and the libraries in memory, before the first is timed
    run_verb(sweep_command(given, options["sweep"], 1), work / "logs" / "first.txt")
    rows = []
    for cells in options["growth"]["cells"]:
        for kind in ("cells", "splits"):
            shutil.rmtree(artifacts / kind, ignore_errors=True)
        seconds, _ = run_verb(sweep_command(given, options["sweep"], cells), work / "logs" / "study.txt")
        rows.append(Row(f"growth_study_cells_{cells}", seconds, None, "s", None))
    return rows


def growth_figure(rows: Sequence[Row], path: Path) -> bool:
    """A panel an axis, a line a kind of step; SVG and PNG. False where no row is one of growth."""
    lines: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in rows:
        if row.name.startswith("growth_"):
            _, step, axis, value = row.name.split("_")
            lines.setdefault(axis, {}).setdefault(step, []).append((float(value), row.ours))
    if not lines:
        return False
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.2 * len(lines), 2.8), layout="constrained")
        for panel, (axis, steps) in zip(figure.subplots(1, len(lines), squeeze=False)[0], lines.items(), strict=True):
            for number, (step, points) in enumerate(steps.items()):
                x, y = zip(*sorted(points), strict=True)
                panel.plot(x, y, color=COLOURS[number], marker=MARKERS[number], label=step)
            panel.set_xlabel(LABELS[axis])
            panel.set_ylabel("seconds" if axis == "cells" else "seconds a step")
            panel.set_ylim(bottom=0)
            panel.legend(frameon=False)
        save(figure, path)
    return True
