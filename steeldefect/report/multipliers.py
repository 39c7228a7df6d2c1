"""What MobileNetV2's multipliers save (paper: section 2.3): alpha, its width, and rho, the resolution."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from steeldefect.report.figures import COLOURS, MARKERS, STYLE, save

# what is drawn, its title and the factor to the unit named there
MEASURES = {
    "flops": ("MFLOPs an image", 1e-6),
    "latency_torch": ("ms an image, torch", 1e3),
    "latency_onnxruntime": ("ms an image, onnxruntime", 1e3),
}
# measure -> image size -> (alpha, value) by alpha
Grid = dict[str, dict[int, list[tuple[float, float]]]]


def read_costs(path: Path) -> list[dict[str, str]]:
    """The rows that experiments/cost.py wrote; none where there is no such file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def multipliers(rows: Sequence[Mapping[str, str]]) -> Grid:
    """MobileNetV2's cost by measure, image size and width; only measures with more than one width."""
    found: dict[str, dict[int, set[tuple[float, float]]]] = {}
    for row in rows:
        if row["name"] in MEASURES and row["classifier"] == "mobilenet_v2" and not row["layer"]:
            value = float(row["value"]) * MEASURES[row["name"]][1]
            of_size = found.setdefault(row["name"], {}).setdefault(int(row["image_size"]), set())
            of_size.add((float(row["width"]), value))
    grid = {
        name: {size: sorted(line) for size, line in sorted(found[name].items())} for name in MEASURES if name in found
    }
    return {name: by_size for name, by_size in grid.items() if any(len(line) > 1 for line in by_size.values())}


def multiplier_figure(rows: Sequence[Mapping[str, str]], path: Path) -> bool:
    """SVG and PNG: a panel a measure, a line an image size, over the width; False where there is no grid."""
    grid = multipliers(rows)
    if not grid:
        return False
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.6 * len(grid), 3.2), layout="constrained")
        for panel, (name, by_size) in zip(figure.subplots(1, len(grid), squeeze=False)[0], grid.items(), strict=True):
            for number, (size, line) in enumerate(by_size.items()):
                look = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
                panel.plot(*zip(*line, strict=True), **look, label=f"{size} px")
            panel.set_title(MEASURES[name][0])
            panel.set_xlabel("width multiplier alpha")
            panel.set_ylim(bottom=0)
        panel.legend(frameon=False, title="resolution (rho)")
        save(figure, path)
    return True
