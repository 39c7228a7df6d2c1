"""The interactive figures of the page: plotly specifications with a text that says what they show."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go

from steeldefect.report.arms import Arms
from steeldefect.report.figures import COLOURS, drawn_shares
from steeldefect.report.low_data import drawn_lines
from steeldefect.report.multipliers import MEASURES, Grid
from steeldefect.report.statistics import Estimate
from steeldefect.report.tables import TITLES, capital

SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")
DASHES = ("solid", "dash", "dot", "dashdot")
MOST_POINTS = 240  # of a training curve: more cannot be told apart


class Chart(NamedTuple):
    """`spec`: plotly's data and layout; traces carry their classifier, points their mix, so that both can be toggled."""

    name: str
    caption: str
    alt: str
    spec: dict[str, Any]


class Point(NamedTuple):
    """One figure of a trace, fractions; `label` is the mix, where it is one."""

    x: float | None
    found: Estimate | None
    label: str


def share_charts(arms: Arms) -> list[Chart]:
    """The tested metric and AP (paper) over the synthetic share, a line a classifier (paper: Table 3)."""
    shares = sorted(drawn_shares(arms).items(), key=lambda item: item[1])
    ticks: dict[str, Any] = {"tickvals": [100 * share for _, share in shares]}
    ticks |= {"ticktext": [f"{100 * share:g} %<br>{escape(mix)}" for mix, share in shares]}
    charts = []
    for metric in arms.metrics:
        lines = {}
        for number, classifier in enumerate(arms.classifiers):
            # a step aside, so that intervals at one share do not lie over each other
            aside = (number - (len(arms.classifiers) - 1) / 2) * 0.8
            found = [(share, mix, _found(arms, classifier, mix, metric)) for mix, share in shares]
            lines[classifier] = [Point(100 * share + aside, one, mix) for share, mix, one in found]
        caption = f"{TITLES[metric]} by synthetic share of the training images; bars: 95 % intervals where n allows one"
        axes = {"xaxis": {"title": "synthetic share", **ticks}, "yaxis": {"title": f"{TITLES[metric]}, %"}}
        charts += _chart(f"share-{metric}-{arms.group.slug}", caption, lines, axes)
    return charts


def low_data_chart(family: Sequence[Arms]) -> list[Chart]:
    """The tested metric over real images a class, a line a classifier, mix and augmentation."""
    lines: dict[str, list[Point]] = {}
    looks: dict[str, tuple[str, str]] = {}
    for augment in sorted({arms.group.augment for arms in family}, reverse=True):
        own = sorted(
            (arms for arms in family if arms.group.augment == augment and arms.group.real_per_class),
            key=lambda arms: arms.group.real_per_class or 0,
        )
        for classifier, mix in drawn_lines(own):
            name = f"{classifier}, {mix}" + ("" if augment == "none" else f", augment={augment}")
            looks[name] = classifier, mix
            lines[name] = [
                Point(arms.group.real_per_class, _found(arms, classifier, mix, arms.metric), mix) for arms in own
            ]
    axes: dict[str, Any] = {
        "xaxis": {"title": "real images a class", "type": "log"},
        "yaxis": {"title": f"{TITLES[family[0].metric]}, %"},
    }
    ticks = sorted({arms.group.real_per_class for arms in family if arms.group.real_per_class})
    axes["xaxis"] |= {"tickvals": ticks, "ticktext": [str(k) for k in ticks]}
    slug = "-".join(["low-data", *map(str, family[0].group[:5])])
    caption = f"{capital(family[0].metric)} by real images a class; bars: 95 % intervals where n allows one"
    return _chart(slug, caption, lines, axes, looks)


def cost_charts(arms: Arms, costs: Mapping[str, Mapping[str, float]]) -> list[Chart]:
    """The tested metric over seconds of training, parameters and the rest of `costs` (by measure and classifier)."""
    measures: dict[str, dict[tuple[str, str], float]] = {"seconds of training a cell": {}, "parameters": {}}
    for classifier in arms.classifiers:
        for mix in arms.mixes:
            own = [record["cost"] for record in arms.arm(classifier, mix).trained.values()]
            seconds = [cost["seconds"] + cost.get("seconds_initial", 0) for cost in own if "seconds" in cost]
            known = [cost["parameters"] for cost in own if "parameters" in cost]
            for name, of_runs in zip(measures, (seconds, known), strict=True):
                if of_runs:
                    measures[name][classifier, mix] = float(np.mean(of_runs))
    for name, by_classifier in costs.items():
        measures[name] = {(c, mix): value for c, value in by_classifier.items() for mix in arms.mixes}
    charts: list[Chart] = []
    for name, values in measures.items():
        lines = {
            c: [Point(values.get((c, mix)), _found(arms, c, mix, arms.metric), mix) for mix in arms.mixes]
            for c in arms.classifiers
        }
        axes = {
            "xaxis": {"title": name, **_log_axis(list(values.values()))},
            "yaxis": {"title": f"{TITLES[arms.metric]}, %"},
        }
        charts += _chart(
            f"cost-{len(charts)}-{arms.group.slug}",
            f"{capital(arms.metric)} against {name}",
            lines,
            axes,
            mode="markers+text",
        )
    return charts


def multiplier_charts(grid: Grid) -> list[Chart]:
    """What MobileNetV2 costs by width, a line an image size (paper: section 2.3)."""
    charts = []
    for name, by_size in grid.items():
        title, traces = MEASURES[name][0], []
        for number, (size, line) in enumerate(by_size.items()):
            widths, values = np.array(line).T
            traces.append(_curve(f"{size} px", widths, values, number, DASHES[number % len(DASHES)]))
        axes = {"xaxis": {"title": "width multiplier alpha"}, "yaxis": {"title": title, "rangemode": "tozero"}}
        charts.append(_figure(f"multipliers-{name}", f"MobileNetV2: {title} by width and resolution", traces, axes))
    return charts


def curve_charts(histories: Mapping[str, Mapping[str, np.ndarray]]) -> list[Chart]:
    """Losses, and the discriminator's accuracy, over the epochs of each GAN."""
    charts = []
    wanted = {"loss": ("loss_d", "loss_g"), "accuracy": ("accuracy_real", "accuracy_fake")}
    titles = {"loss": "Losses of discriminator (loss_d) and generator (loss_g)", "accuracy": "Discriminator's accuracy"}
    for kind, columns in wanted.items():
        traces = []
        for number, (name, history) in enumerate(histories.items()):
            for dash, column in zip(DASHES, columns, strict=False):
                if column in history:
                    traces.append(_curve(f"{column}, {name}", history["epoch"], history[column], number, dash))
        if traces:
            caption = f"{titles[kind]} over epochs"
            charts.append(
                _figure(f"gan-{kind}", caption, traces, {"xaxis": {"title": "epoch"}, "yaxis": {"title": kind}})
            )
    return charts


def quality_charts(rows: Mapping[str, Sequence[Mapping[str, str]]]) -> list[Chart]:
    """KID on validation images, with what real images get, and diversity, over the epochs of each GAN."""
    charts = []
    for column, other in (("kid", "kid_floor"), ("diversity", "diversity_real")):
        traces = []
        for number, (name, own) in enumerate(rows.items()):
            overall = [row for row in own if row["class"] == "all"]
            epochs = np.array([float(row["epoch"]) for row in overall])
            for dash, key in zip(DASHES, (column, other), strict=False):
                values = np.array([float(row[key] or "nan") for row in overall])
                traces.append(_curve(f"{key}, {name}", epochs, values, number, dash))
        if traces:
            axes = {"xaxis": {"title": "epoch"}, "yaxis": {"title": column}}
            caption = f"{column} of synthetic images over epochs, and what real ones get in their place"
            charts.append(_figure(f"quality-{column}", caption, traces, axes))
    return charts


def _log_axis(values: Sequence[float]) -> dict[str, Any]:
    """An axis around `values` with its ticks at 1, 2 and 5 times the powers of ten."""
    low, high = min(values, default=1.0) / 1.6, max(values, default=1.0) * 2.5
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    ticks = [tick for power in decades for tick in (10.0**power * np.array([1, 2, 5])).tolist() if low <= tick <= high]
    span = [float(np.log10(low)), float(np.log10(high))]
    return {"type": "log", "tickvals": ticks, "tickformat": "~s", "range": span}


def _found(arms: Arms, classifier: str, mix: str, metric: str) -> Estimate | None:
    found = arms.estimate(classifier, mix, metric)
    return found if isinstance(found, Estimate) else None


def _chart(
    name: str,
    caption: str,
    lines: Mapping[str, Sequence[Point]],
    axes: Mapping[str, Any],
    looks: Mapping[str, tuple[str, str]] | None = None,
    mode: str = "lines+markers",
) -> list[Chart]:
    """A trace a line; none where nothing trained. `looks`: classifier and mix of a line that is not named by its classifier."""
    drawn = {key: points for key, points in lines.items() if any(p.found and p.x is not None for p in points)}
    classifiers = sorted({looks[key][0] for key in drawn} if looks else drawn)
    colours = sorted({looks[key][1] for key in drawn}) if looks else classifiers
    traces = []
    for key, points in drawn.items():
        classifier, colour = (looks[key][0], looks[key][1]) if looks else (key, key)
        number = colours.index(colour)
        # a gap where an arm has no figure: a line through it would show one that nobody measured
        shown = [(p.x, *_percent(p.found), p.label) if p.x is not None else (None, None, 0, 0, p.label) for p in points]
        x, y, below, above, labels = (list(column) for column in zip(*shown, strict=True))
        dash = DASHES[classifiers.index(classifier) % len(DASHES)] if looks else "solid"
        trace = _look(key, number, dash, mode) | {"x": x, "y": y, "customdata": labels}
        trace["error_y"] = {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1.2}
        trace["meta"] = {"classifier": classifier}
        if "text" in mode:
            trace |= {
                "text": [escape(label) for label in labels],
                "textposition": "middle right",
                "textfont": {"size": 10},
            }
        trace["hovertemplate"] = "%{fullData.name}, %{customdata}: %{y:.1f}<extra></extra>"
        traces.append(trace)
    return [_figure(name, caption, traces, axes)] if traces else []


def _percent(found: Estimate | None) -> tuple[float | None, float, float]:
    if found is None:
        return None, 0, 0
    low, high = (found.mean if end is None else end for end in (found.low, found.high))
    return round(100 * found.mean, 3), round(100 * (found.mean - low), 3), round(100 * (high - found.mean), 3)


def _look(name: str, number: int, dash: str, mode: str) -> dict[str, Any]:
    colour = COLOURS[number % len(COLOURS)]
    marker = {"color": colour, "symbol": SYMBOLS[number % len(SYMBOLS)], "size": 9}
    # plotly reads text as HTML
    return {
        "type": "scatter",
        "mode": mode,
        "name": escape(name),
        "marker": marker,
        "line": {"color": colour, "dash": dash},
    }


def _curve(name: str, epochs: np.ndarray, values: np.ndarray, number: int, dash: str) -> dict[str, Any]:
    kept = np.unique(np.linspace(0, len(epochs) - 1, min(len(epochs), MOST_POINTS)).astype(int))
    y = [float(f"{value:.5g}") if np.isfinite(value) else None for value in values[kept]]
    return _look(name, number, dash, "lines") | {"x": epochs[kept].tolist(), "y": y}


def _figure(name: str, caption: str, traces: Sequence[Mapping[str, Any]], axes: Mapping[str, Any]) -> Chart:
    layout = {"template": "none", "hovermode": "closest", "showlegend": True, **axes}
    # plotly checks every name and value here
    spec = json.loads(go.Figure(data=list(traces), layout=layout).to_json())
    return Chart(name, caption, f"{caption}. " + " ".join(_told(trace) for trace in traces), spec)


def _told(trace: Mapping[str, Any]) -> str:
    """What a trace says, for those who do not see it: each point, of a curve its first and last."""
    known = [(x, y) for x, y in zip(trace["x"], trace["y"], strict=True) if y is not None]
    if "customdata" not in trace:
        return f"{trace['name']}: from {known[0][1]:g} to {known[-1][1]:g}." if known else ""
    points = zip(trace["customdata"], trace["x"], trace["y"], strict=True)
    shown = (f"{label} {y:.1f} at {x:g}" if y is not None else f"{label} none" for label, x, y in points)
    return f"{trace['name']}: {', '.join(shown)}."
