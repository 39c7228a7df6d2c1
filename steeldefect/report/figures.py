"""Figures of the report, each as SVG and PNG, the same bytes for the same content."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from steeldefect.report.arms import Arms, Missing
from steeldefect.report.contrasts import ContrastTable
from steeldefect.report.differences import FEWEST, Contrast
from steeldefect.report.statistics import Estimate
from steeldefect.report.tables import TITLES

# Okabe and Ito's colours, told apart by colour-blind readers; a marker each for print without colour
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "P")
STYLE: Any = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.axisbelow": True,
    "svg.hashsalt": "steeldefect",
    "svg.fonttype": "path",
    "image.interpolation": "nearest",
}


def save(figure: Figure, path: Path) -> None:
    """`path` with .svg and .png; neither holds a date or a version."""
    with matplotlib.rc_context(STYLE):
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None, "Creator": None}, bbox_inches="tight")
        figure.savefig(path.with_suffix(".png"), metadata={"Software": None}, dpi=130, bbox_inches="tight")


def share_figure(arms: Arms, path: Path) -> bool:
    """Tested metric and AP (paper) over the synthetic share, a line a classifier, with intervals; False: nothing trained."""
    shares = drawn_shares(arms)
    drawn = [c for c in arms.classifiers if any(arms.arm(c, mix).trained for mix in shares)]
    if not drawn:
        return False
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.2, 3.8), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for panel, metric in zip(panels, arms.metrics, strict=True):
            for number, classifier in enumerate(drawn):
                # a step aside, so that intervals at one share do not lie over each other
                aside = (number - (len(drawn) - 1) / 2) * 1.1
                _share_line(panel, arms, classifier, metric, shares, aside, number)
            panel.set_title(TITLES[metric])
            panel.set_xlabel("synthetic share of the training images, %")
            panel.set_xticks(sorted({100 * share for share in shares.values()}))
        panels[0].set_ylabel("percent, 95 % interval where n allows one")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", frameon=False)
        save(figure, path)
    return True


FAR = {"org0", "shuffled", "org0-uniform", "shuffled-uniform"}  # no bank is meant to come near the originals so


def differences_figure(table: ContrastTable, path: Path) -> bool:
    """Every difference of a group with its interval, a panel a classifier; False: none has a figure."""
    found = [one for one in table.listed if isinstance(one.found, Estimate)]
    if not found:
        return False
    classifiers = sorted({one.classifier for one in found})
    rows = list(dict.fromkeys(f"{one.mix} - {one.arm}" for one in found))
    # what is far off and wide intervals of few runs end at the edge, so that the differences in question can be told apart
    close = [one for one in found if not {one.mix, one.arm} & FAR] or found
    reach = 1.5 * max(abs(100 * one.found.mean) for one in close if isinstance(one.found, Estimate)) + 5
    with matplotlib.rc_context(STYLE):
        size = (4.4 * len(classifiers) + 0.4, 0.3 * len(rows) + 1.2)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1, len(classifiers), squeeze=False, sharey=True)[0]
        panels[0].set_yticks(range(len(rows)), rows)
        panels[0].invert_yaxis()
        for panel, classifier in zip(panels, classifiers, strict=True):
            panel.axvline(0, color="black", linewidth=0.8)
            for one in (one for one in found if one.classifier == classifier):
                _difference(panel, rows.index(f"{one.mix} - {one.arm}"), one, reach)
            panel.set_xlim(-reach, reach)
            panel.set_title(classifier)
            panel.set_xlabel(f"difference in {TITLES[table.metric]}, points")
        save(figure, path)
    return True


def _difference(panel: Axes, at: int, one: Contrast, reach: float) -> None:
    """Hollow where nothing is said of so few pairs; as a number at the edge where it lies beyond `reach`."""
    assert isinstance(one.found, Estimate)
    low, high = (one.found.mean if end is None else end for end in (one.found.low, one.found.high))
    mean, bars = 100 * one.found.mean, 100 * np.array([[one.found.mean - low], [high - one.found.mean]])
    colour = COLOURS[1] if one.primary else COLOURS[0]
    hollow = "white" if one.found.n_runs < FEWEST else colour
    if abs(mean) > reach:
        side, align = np.sign(mean) * reach * 0.97, "left" if mean < 0 else "right"
        panel.text(
            side, at, f"{mean:+.1f}", ha=align, va="center", fontsize=8, color=colour, bbox={"color": "white", "pad": 1}
        )
    panel.errorbar(mean, at, xerr=bars, fmt="o", color=colour, markerfacecolor=hollow, capsize=2.5, markersize=5)
    panel.annotate(
        f"n={one.found.n_runs}", (1.01, at), xycoords=("axes fraction", "data"), va="center", fontsize=7, color="gray"
    )


def drawn_shares(arms: Arms) -> dict[str, float]:
    """Synthetic share by mix; controls such as `shuffled` have one too, but are no point of its curve."""
    shares = {str(record["mix"]): record.get("synthetic_share") for record in arms.records}
    return {mix: share for mix, share in shares.items() if share is not None and mix.startswith("org")}


def _share_line(
    panel: Axes, arms: Arms, classifier: str, metric: str, shares: Mapping[str, float], aside: float, number: int
) -> None:
    points = []
    for mix, share in sorted(shares.items(), key=lambda item: item[1]):
        found = arms.estimate(classifier, mix, metric)
        if isinstance(found, Missing):
            # a gap: a line through it would show a figure that nobody measured
            points.append((100 * share + aside, np.nan, 0.0, 0.0))
            continue
        low, high = (found.mean if end is None else end for end in (found.low, found.high))
        points.append((100 * share + aside, found.mean, found.mean - low, high - found.mean))
    if all(np.isnan(point[1]) for point in points):
        return
    x, mean, below, above = 100 * np.array(points).T
    style = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
    panel.errorbar(x / 100, mean, (below, above), capsize=2.5, markersize=5, linewidth=1.3, label=classifier, **style)  # type: ignore[arg-type]


def confusion_figure(arms: Arms, classifiers: Sequence[str], mixes: Sequence[str], path: Path) -> bool:
    """One matrix an arm, summed over its trained runs, in percent of the true class; False: nothing trained."""
    cells = [(c, mix) for c in classifiers for mix in mixes]
    if not any(arms.arm(*cell).trained for cell in cells):
        return False
    n = len(arms.classes)
    with matplotlib.rc_context({**STYLE, "axes.grid": False, "font.size": 7.5}):
        # a panel grows with the number of classes, so that figures in it stay apart
        size = (max(1.9, 0.34 * n) * len(mixes) + 1.2, max(1.9, 0.34 * n) * len(classifiers) + 1.0)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(len(classifiers), len(mixes), squeeze=False)
        for panel, (classifier, mix) in zip(panels.flat, cells, strict=True):
            trained = arms.arm(classifier, mix).trained
            panel.set_title(f"{classifier}, {mix}, n={len(trained)}")
            _matrix(panel, np.sum([np.zeros((n, n)), *(record["confusion"] for record in trained.values())], axis=0))
            if not trained:
                panel.text(0.5, 0.5, arms.arm(classifier, mix).why_empty.why, ha="center", transform=panel.transAxes)
            panel.set_xticks(range(n), arms.classes if panel in panels[-1] else [""] * n, rotation=60, ha="right")
            panel.set_yticks(range(n), arms.classes if panel in panels[:, 0] else [""] * n)
            panel.tick_params(length=0)
        figure.supylabel("true class")
        figure.supxlabel("predicted class (percent of the true class)")
        save(figure, path)
    return True


def _matrix(panel: Axes, counts: np.ndarray) -> None:
    share = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    panel.imshow(share, cmap="Blues", vmin=0, vmax=100)
    for (row, column), value in np.ndenumerate(share):
        # under 0.05 percent nothing is written, so that the eye finds the errors
        if value >= 0.05:
            text = f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"
            panel.text(
                column, row, text, ha="center", va="center", color="white" if value > 55 else "black", fontsize=6
            )


def gan_curves(histories: Mapping[str, Mapping[str, np.ndarray]], path: Path) -> bool:
    """Losses and the discriminator's accuracy by epoch, a row a GAN; each history maps a column to (epochs,)."""
    if not histories:
        return False
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.2, 2.4 * len(histories) + 0.4), layout="constrained")
        panels = figure.subplots(len(histories), 2, squeeze=False, sharex="row")
        for (losses, accuracies), (name, history) in zip(panels, sorted(histories.items()), strict=True):
            pairs = [("loss_d", "discriminator"), ("loss_g", "generator")]
            _curves(losses, history, pairs, 1)
            _curves(accuracies, history, [("accuracy_real", "real images"), ("accuracy_fake", "synthetic images")], 100)
            losses.set_title(f"{name}: loss")
            accuracies.set_title("discriminator's accuracy, %")
            accuracies.set_ylim(-3, 103)
            for panel in (losses, accuracies):
                panel.legend(frameon=False)
                panel.set_xlabel("epoch")
        save(figure, path)
    return True


def _curves(panel: Axes, history: Mapping[str, np.ndarray], columns: Sequence[tuple[str, str]], factor: float) -> None:
    for number, (column, label) in enumerate(columns):
        style = ("-", "--")[number]
        panel.plot(history["epoch"], factor * history[column], style, color=COLOURS[number], linewidth=1.1, label=label)


def samples_figure(images: np.ndarray, classes: Sequence[str], path: Path) -> None:
    """Images of each class in a row (paper: Fig. 5); images uint8 (C, n, S, S)."""
    _sheet([(name, row) for name, row in zip(classes, images, strict=True)], path)


def synthetic_beside_real(real: np.ndarray, synthetic: np.ndarray, classes: Sequence[str], path: Path) -> None:
    """A row of real and below it one of synthetic images for each class (paper: Fig. 6); both uint8 (C, n, S, S)."""
    rows = []
    for name, own, made in zip(classes, real, synthetic, strict=True):
        rows += [(f"{name}\nreal", own), ("synthetic", made)]
    _sheet(rows, path)


def _sheet(rows: Sequence[tuple[str, np.ndarray]], path: Path) -> None:
    """One picture of all images, each enlarged to the largest side among them; a panel an image would take minutes."""
    side = max(images.shape[-1] for _, images in rows)
    columns, pitch = max(len(images) for _, images in rows), side + max(2, side // 16)
    picture = np.full((len(rows) * pitch, columns * pitch), 255, np.uint8)
    for r, (_, images) in enumerate(rows):
        nearest = np.arange(side) * images.shape[-1] // side
        for c, image in enumerate(images):
            picture[r * pitch : r * pitch + side, c * pitch : c * pitch + side] = image[np.ix_(nearest, nearest)]
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(1.05 * columns + 1.3, 1.05 * len(rows)), layout="constrained")
        panel = figure.subplots()
        panel.imshow(picture, cmap="gray", vmin=0, vmax=255)
        panel.set_yticks([r * pitch + side / 2 for r in range(len(rows))], [name for name, _ in rows])
        panel.set_xticks([])
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
        save(figure, path)
