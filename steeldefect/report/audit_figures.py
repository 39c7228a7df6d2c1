"""Pictures of an overlap audit: what was matched, and how far it stands out from what cannot match."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from steeldefect.data.audit import Audit
from steeldefect.data.inspection import Finding, seen_as
from steeldefect.data.overlaps import Pass
from steeldefect.report.figures import COLOURS, MARKERS, STYLE, save

# pairs drawn a class: the most distinct, the one in the middle, the least distinct
SHOWN = ("clearest", "median", "faintest")


def histogram(made: Audit, path: Path) -> None:
    """Distinctness of the candidates of each pass beside that of mirrored pairs, which cannot overlap; SVG and PNG."""
    passes = made.overlaps.passes
    columns = min(3, len(passes))
    rows = -(-len(passes) // columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.2 * columns, 2.4 * rows), layout="constrained")
        panels = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
        for panel, one in zip(panels, passes, strict=False):
            _pass_panel(panel, one)
        for panel in panels[len(passes) :]:
            panel.set_visible(False)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
        save(figure, path)


def _pass_panel(panel: Axes, one: Pass) -> None:
    # the null was drawn from fewer pairs: scaled to the number that was searched
    scale = one.pairs / max(1, one.null_pairs)
    edges = np.linspace(0, max(0.2, float(one.seen.max(initial=0)), float(one.null.max(initial=0))), 60).tolist()
    panel.hist(one.seen, edges, color=COLOURS[0], alpha=0.8, label="pairs of the data")
    panel.hist(
        one.null,
        edges,
        weights=np.full(len(one.null), scale),
        histtype="step",
        color=COLOURS[1],
        label="mirrored pairs",
    )
    panel.axvline(one.threshold, color="black", linestyle="--", linewidth=1, label="threshold")
    panel.set_yscale("log")
    panel.set_ylim(bottom=0.5)
    panel.set_title(one.name)
    panel.set_xlabel("distinctness")
    panel.set_ylabel("candidates")


def gallery(made: Audit, path: Path) -> None:
    """PNG: for each class three pairs, the rectangle that both show drawn in each."""
    chosen = {name: _chosen(made, label) for label, name in enumerate(made.classes)}
    chosen = {name: pairs for name, pairs in chosen.items() if pairs}
    rows = max(1, len(chosen))
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(12.5, 2.25 * rows), layout="constrained")
        # the two of a pair side by side, a gap between pairs
        panels = figure.subplots(rows, 3 * len(SHOWN), squeeze=False, width_ratios=[1, 1, 0.1] * len(SHOWN))
        for panel in panels.ravel():
            panel.set_axis_off()
        if not chosen:
            panels[0, 0].set_title("no pair of images overlaps", loc="left")
        for row, pairs in zip(panels, chosen.values(), strict=False):
            for number, (word, one) in enumerate(pairs):
                _draw_pair(made, one, word, row[3 * number], row[3 * number + 1])
        figure.savefig(path.with_suffix(".png"), metadata={"Software": None}, dpi=110)


def _chosen(made: Audit, label: int) -> list[tuple[str, Finding]]:
    found = sorted(
        (one for one in made.overlaps.findings if made.labels[one.a] == label),
        key=lambda one: (-one.distinctness, one.a, one.b),
    )
    if not found:
        return []
    places = dict.fromkeys((0, len(found) // 2, len(found) - 1))
    return [(word, found[place]) for word, place in zip(SHOWN, places, strict=False)]


def _draw_pair(made: Audit, one: Finding, word: str, left: Axes, right: Axes) -> None:
    size = made.images.shape[1]
    views = (made.images[one.a], seen_as(made.images[one.b], one.view))
    said = f"{word}: {one.overlap:.0%} of the area, NCC {one.score:.2f}, distinctness {one.distinctness:.2f}"
    for panel, pixels, title, (dy, dx) in (
        (left, views[0], f"{said}\n{made.names[one.a]}", (one.dy, one.dx)),
        (right, views[1], made.names[one.b], (-one.dy, -one.dx)),
    ):
        panel.imshow(pixels, cmap="gray", vmin=0, vmax=255)
        corner = (max(dx, 0) - 0.5, max(dy, 0) - 0.5)
        panel.add_patch(
            Rectangle(corner, size - abs(dx), size - abs(dy), fill=False, edgecolor=COLOURS[1], linewidth=1.5)
        )
        # a title's width, unlike a text's, does not push the panels apart
        panel.set_title(title, fontsize=6, loc="left")


def growth_figure(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Seconds by number of images, a line for the exhaustive search and one for the bundled; SVG and PNG."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 3.2), layout="constrained")
        panel = figure.subplots()
        for number, bundle in enumerate(sorted({row["bundle"] for row in rows})):
            own = [row for row in rows if row["bundle"] == bundle]
            name = "every pair" if bundle == 1 else f"sums of {bundle} images first"
            x, y = [row["images"] for row in own], [row["seconds"] for row in own]
            panel.plot(x, y, color=COLOURS[number], marker=MARKERS[number], label=name)
        panel.set_xlabel("images")
        panel.set_ylabel("seconds")
        panel.set_ylim(bottom=0)
        panel.legend(frameon=False)
        save(figure, path)
