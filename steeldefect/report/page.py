"""One HTML file of a report that needs no network: tables that sort, figures that answer, every figure to its record."""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from steeldefect.report import galleries
from steeldefect.report.arms import Arms, Group
from steeldefect.report.collect import Collection, Record
from steeldefect.report.contrasts import NOTE as CONTRASTS_NOTE
from steeldefect.report.contrasts import ContrastTable
from steeldefect.report.low_data import NOTE as LOW_DATA_NOTE
from steeldefect.report.low_data import families
from steeldefect.report.multipliers import multipliers
from steeldefect.report.page_charts import (
    Chart,
    cost_charts,
    curve_charts,
    low_data_chart,
    multiplier_charts,
    quality_charts,
    share_charts,
)
from steeldefect.report.page_pictures import Gallery, gallery
from steeldefect.report.page_tables import Cell, Confusion, View, cells_view, confusions, headline, plain_view, view
from steeldefect.report.provenance import Shown, commands, facts
from steeldefect.report.tables import TITLES
from steeldefect.runs.errors import UserError
from steeldefect.runs.portable import without_paths
from steeldefect.runs.store import MANIFEST, read_json

log = logging.getLogger(__name__)
NAME = "page.html"
LIMIT = 8 * 2**20  # bytes: what a mail or a browser on a telephone still takes
COSTS = {"flops": "FLOPs an image", "latency_torch": "seconds an image, torch, batch 1"}
COSTS |= {"latency_onnxruntime": "seconds an image, onnxruntime, batch 1"}
NO_PHOTOGRAPHS = (
    "No images of the data set or of its banks, and no nearest training images: "
    "photographs are shown in reports under artifacts only."
)


class Section(NamedTuple):
    """What the page shows of one group."""

    title: str
    slug: str
    headline: list[tuple[str, Cell]]
    views: list[View]
    charts: list[Chart]
    confusions: list[Confusion]
    costs: list[Chart]
    galleries: list[Gallery]
    no_images: str


def write_page(
    output: Path,
    artifacts: Path,
    costs: Sequence[Mapping[str, str]],
    collection: Collection,
    tables: Sequence[Arms],
    shown: Mapping[Group, Sequence[Shown]],
    low_data: Sequence[Shown],
    study: str | None,
    note: str,
) -> Path:
    """`output`/page.html; `shown` are the tables of each group, `note` says how to read them.

    `costs` are the rows of experiments/cost.py, where they are at hand.

    Where the records would carry the page over `LIMIT`, they are left out and records.jsonl is named instead.
    """
    records = collection.records
    parts: dict[str, Any] = {
        "metric": TITLES[tables[0].metric],
        "title": f"steeldefect: {study.replace('_', ' ')}" if study else "steeldefect: report",
        "verdicts": _verdicts(shown, records),
        "sections": [_section(arms, shown[arms.group], output, artifacts, costs) for arms in tables],
        "low_data": [view(table, records) for table in low_data],
        "low_data_charts": [chart for family in families(tables) for chart in low_data_chart(family)],
        "multiplier_charts": multiplier_charts(multipliers(costs)),
        "gan_charts": _gan_charts(records, artifacts),
        "audits": _audits(records, artifacts),
        "notes": [note, CONTRASTS_NOTE, *([LOW_DATA_NOTE] if low_data else [])],
        "facts": facts(collection),
        "commands": commands(records),
        "skipped": collection.skipped,
        "cells": cells_view(records),
        "mixes": sorted({record["mix"] for record in records}, key=Arms.order),
        "classifiers": sorted({record["classifier"] for record in records}),
        "records": [(record, json.dumps(without_paths(record), sort_keys=True)) for record in records],
    }
    text = _rendered(parts)
    if len(text.encode()) > LIMIT:
        log.warning("%s: over %d MiB with its records, which are left out of it", NAME, LIMIT // 2**20)
        text = _rendered(parts | {"records": [(record, "") for record in records]})
    (output / NAME).write_text(text, encoding="utf-8")
    return output / NAME


def _rendered(parts: Mapping[str, Any]) -> str:
    # the template and what it includes are the only text that is not escaped
    environment = Environment(
        loader=PackageLoader("steeldefect.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["said"] = _said
    return environment.get_template("page.html").render(parts, plotly=Markup(_plotly()))


@cache
def _plotly() -> str:
    return str(get_plotlyjs())


def _said(text: str) -> Markup:
    """`**strong**` and `*emphasis*` of our own notes; everything else as it is."""
    marked = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", str(escape(text)))
    return Markup(re.sub(r"\*(.+?)\*", r"<em>\1</em>", marked))


def _verdicts(shown: Mapping[Group, Sequence[Shown]], records: Sequence[Record]) -> list[tuple[str, str, View]]:
    """Of each generator that the question of the primary hypothesis is asked of: the answer, and its two differences."""
    return [
        (table.heading, table.said, view(ContrastTable(table.group, table.metric, (), table.answer), records))
        for tables in shown.values()
        for table in tables
        if isinstance(table, ContrastTable) and table.said
    ]


def _section(
    arms: Arms, shown: Sequence[Shown], output: Path, artifacts: Path, costs: Sequence[Mapping[str, str]]
) -> Section:
    pictures, why = [], NO_PHOTOGRAPHS
    if galleries.may_show(arms.group.dataset, output, artifacts):
        found = gallery(arms.records, artifacts)
        pictures = [] if found is None else [found]
        why = "No images: the records are here without their banks or their data set."
    low = arms.group.real_per_class is not None
    return Section(
        arms.group.title,
        arms.group.slug,
        headline(arms),
        # a difference across schedules leads to cells of two groups
        [view(table, arms.collection.records) for table in shown],
        [] if low else share_charts(arms),
        confusions(arms),
        cost_charts(arms, _costs(costs, arms)),
        pictures,
        "" if pictures else why,
    )


def _gan_charts(records: Sequence[Record], artifacts: Path) -> list[Chart]:
    curves = curve_charts(galleries.histories(records, artifacts))
    return [*curves, *quality_charts(galleries.gan_rows(records, artifacts, "quality.csv"))]


def _costs(rows: Sequence[Mapping[str, str]], arms: Arms) -> dict[str, dict[str, float]]:
    """FLOPs and latency by classifier, at the image size of these cells."""
    sizes = {str(record["config"].get("classifier", {}).get("image_size")) for record in arms.records}
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        # other widths are other networks than those of the study
        if row["name"] in COSTS and row["image_size"] in sizes and row["width"] in ("", "1.0"):
            found.setdefault(COSTS[row["name"]], {})[row["classifier"]] = float(row["value"])
    return found


def _audits(records: Sequence[Record], artifacts: Path) -> list[View]:
    """What `make audit` found in these data sets, where it is at hand."""
    contents = {record["ids"].get("dataset"): record["dataset"] for record in records}
    found = []
    for path in sorted((artifacts / "scenes").glob(f"[!.]*/{MANIFEST}")):
        try:
            manifest = read_json(path)
            content, rows = manifest["identity"]["dataset"], manifest["summary"]["classes"]
        except (UserError, KeyError, TypeError):
            continue  # written by another version: the page does without
        if content in contents and rows:
            shown = [{key: str(value) for key, value in row.items()} for row in rows]
            title = f"Scene audit of {contents[content]}"
            found.append(plain_view(title, f"audit {path.parent.name}, data {content}", shown))
    return found
