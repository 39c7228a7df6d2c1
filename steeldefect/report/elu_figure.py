"""What ELU does to the signal in the discriminator, and what BN costs: drawn from plain rows."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from steeldefect.report.figures import COLOURS, MARKERS, STYLE, save

Rows = Sequence[Mapping[str, Any]]


def elu_figure(activations: Rows, steps: Rows, path: Path) -> None:
    """SVG and PNG: by layer, a line a stack, the mean of the activations and the std before them; seconds a step of D.

    `activations` hold `stack, seed, layer, place, mean, std`, `steps` hold `step, seconds` (see gan/activations.py).
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.5, 3.4), layout="constrained")
        means, stds, times = figure.subplots(1, 3)
        _by_layer(means, activations, "activation", "mean")
        means.set_title("mean of the activations")
        _by_layer(stds, activations, "pre_activation", "std")
        stds.set_title("std of the pre-activations")
        stds.set_yscale("log")
        _times(times, steps)
        handles, labels = stds.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
        save(figure, path)


def _by_layer(panel: Axes, rows: Rows, place: str, figure: str) -> None:
    """The median over the seeds, and all of them as a band."""
    for number, stack in enumerate(dict.fromkeys(row["stack"] for row in rows)):
        own = [row for row in rows if row["stack"] == stack and row["place"] == place]
        layers = sorted({row["layer"] for row in own})
        values = [[row[figure] for row in own if row["layer"] == layer] for layer in layers]
        colour = COLOURS[number % len(COLOURS)]
        panel.plot(layers, [statistics.median(v) for v in values], color=colour, marker=MARKERS[number], label=stack)
        panel.fill_between(layers, [min(v) for v in values], [max(v) for v in values], color=colour, alpha=0.15)
        panel.set_xticks(layers)
    panel.set_xlabel("layer of the discriminator")


def _times(panel: Axes, rows: Rows) -> None:
    names = list(dict.fromkeys(row["step"] for row in rows))
    for place, name in enumerate(names):
        seconds = [1000 * row["seconds"] for row in rows if row["step"] == name]
        middle = statistics.median(seconds)
        panel.barh(place, middle, color="0.75", height=0.6)
        panel.plot(seconds, [place] * len(seconds), "|", color="black", alpha=0.5)
        panel.annotate(f"{middle:.1f}", (middle, place), xytext=(3, 8), textcoords="offset points", fontsize=8)
    panel.set_yticks(range(len(names)), names)
    panel.set_title("ms a step of D: median, and each try")
