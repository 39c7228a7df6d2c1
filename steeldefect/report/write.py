"""The files of a report, from a collection of records."""

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from steeldefect.report import galleries
from steeldefect.report.arms import TESTED, Arms, Group, groups, study_records
from steeldefect.report.collect import Collection, write_committed
from steeldefect.report.contrasts import NOTE as CONTRASTS_NOTE
from steeldefect.report.contrasts import ContrastTable, Declared, contrast_tables, expected
from steeldefect.report.controls import controls_tables
from steeldefect.report.differences import COLUMNS
from steeldefect.report.figures import (
    confusion_figure,
    differences_figure,
    gan_curves,
    samples_figure,
    share_figure,
    synthetic_beside_real,
)
from steeldefect.report.low_data import (
    EXCHANGE,
    ExchangeTable,
    LowDataTable,
    exchange_table,
    families,
    low_data_figure,
    low_data_tables,
)
from steeldefect.report.low_data import NOTE as LOW_DATA_NOTE
from steeldefect.report.multipliers import read_costs
from steeldefect.report.page import write_page
from steeldefect.report.provenance import Shown, cells_table, provenance, readme
from steeldefect.report.schedules import schedules_tables
from steeldefect.report.tables import CONTROLS, LONG, SUMMARY, Table, capital, summary, table2, table3, to_csv
from steeldefect.runs.errors import UserError

NOTE = """\
Each figure: mean over the trained runs (replicates) in percent, [95 % interval], n = runs. Intervals: two-way clustered
by scene and run, from each image's first-order influence on the metric, in Wilson's form with a t quantile; without
predictions a t interval over runs; differences are paired by replicate. One run alone has no interval but for accuracy
(Wilson, with the number of images that its scenes are worth; it knows nothing of other runs). Training sets of
different runs overlap. *not trained*: final training accuracy under 90 % (not asked of `shuffled`, whose labels are
wrong); enters no mean and no difference. *missing*: in the grid, but no cell. AP (paper) = (precision + recall) / 2, the
paper's measure, not average precision. The paper's figures are as printed.
"""


DIFFERENCES = "differences"
# how the names of figures begin that follow from the records alone; what was drawn from images could not be had again
FIGURES = ("share-", "confusion-", "differences-", "low_data-")


@dataclass(kw_only=True)
class Grid:
    """The declared grid: what a complete study holds. Replicates: None for those that the records have."""

    table2_mixes: Sequence[str]
    table3_classifiers: Sequence[str]
    table3_mixes: Sequence[str]
    replicates: Sequence[int] | None = None
    arms: Mapping[str, Declared] = field(default_factory=dict)  # by augment, of a study other than Tables 2 and 3
    family: Mapping[str, Declared] | None = None  # of which `arms` are a part; Holm's correction is over all of it
    metric: str = TESTED[0]  # that differences are tested in

    def within(self, where: Mapping[str, Any]) -> "Grid":
        """What is left of it for a report on the cells that `where` names: what was not asked for is not missing."""

        def kept(key: str, values: Iterable[str]) -> list[str]:
            wanted = where.get(key)
            return [value for value in values if wanted is None or value in np.atleast_1d(wanted)]

        arms = {
            augment: Declared(kept("classifier", own.classifiers), kept("mix", own.mixes))
            for augment, own in self.arms.items()
            if kept("augment", [augment])
        }
        return replace(
            self,
            table2_mixes=kept("mix", self.table2_mixes),
            table3_classifiers=kept("classifier", self.table3_classifiers),
            table3_mixes=kept("mix", self.table3_mixes),
            arms=arms,
            family=self.arms,
        )


@dataclass
class Report:
    """The tables of every group, for the terminal, and what was left out."""

    table2: list[Table] = field(default_factory=list)
    table3: list[Table] = field(default_factory=list)
    contrasts: list[ContrastTable] = field(default_factory=list)
    controls: list[Table] = field(default_factory=list)
    low_data: list[LowDataTable | ExchangeTable] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    metric: str = TESTED[0]  # that differences are tested in

    def shown(self, study: str | None) -> list[Shown]:
        """What the study is about, as printed on the terminal and in its README."""
        tested = [table for table in self.contrasts if table.metric == self.metric]
        tested.sort(key=lambda table: not table.primary)  # the primary hypothesis first
        if study == "controls":
            return [*tested, *self.controls]
        if study == "low_data":
            return [*self.low_data, *tested]
        return [*(self.table2 if study == "table2" else self.table3), *tested]


def write_report(
    collection: Collection,
    output: Path,
    grid: Grid,
    artifacts: Path,
    study: str | None = None,
    where: Mapping[str, Any] | None = None,
    figures: bool | str = True,
    costs: Path | None = None,
) -> Report:
    """Writes report.md, tables, summary.csv, figures, page.html, records.jsonl and predictions.csv; with `study` README.md.

    figures: all of them, none, or `DIFFERENCES` alone (and no page.html).
    `artifacts` is where banks and histories are looked for, `costs` the file of experiments/cost.py. The bytes follow
    from the records alone (figures: and from what of these two is at hand).
    """
    where = where or {}
    collection, grid = _of_study(collection, where), grid.within(where)
    tables = [Arms(collection, group, grid.replicates, grid.metric) for group in groups(collection.records)]
    (output / "figures").mkdir(parents=True, exist_ok=True)
    report = Report(skipped=collection.skipped, metric=grid.metric)
    by_group = _fill(report, tables, grid, study)
    sections = [f"# Report{f': {study}' if study else ''}\n\n{NOTE}"]
    for arms in tables:
        shown = by_group[arms.group]
        sections += [f"## {arms.group.title}\n", *(f"### {table.title}\n\n{table.markdown()}\n" for table in shown)]
        sections += _differences(shown, output, report.metric) if figures else []
        sections += _figures(arms, grid, output, artifacts) if figures is True else []
    costs_of_updates = schedules_tables(tables)
    report.controls += costs_of_updates
    sections += [f"## {table.title}\n\n{table.heading}\n\n{table.markdown()}\n" for table in costs_of_updates]
    sections += _low_data(tables, grid, output, report, figures is True)
    sections += [f"## How to read the differences\n\n{CONTRASTS_NOTE}"]
    sections += [_gan_section(collection, output, artifacts)] if figures is True else []
    sections.append(provenance(collection))
    if figures:
        _clear_figures(output / "figures", sections)
    _write_tables(report, output)
    (output / "summary.csv").write_text(to_csv(SUMMARY, summary(study or "all", tables)))
    (output / "report.md").write_text("\n".join([*sections, cells_table(collection)]))
    write_committed(collection, output)
    if figures is True:
        write_page(
            output,
            artifacts,
            read_costs(costs) if costs else [],
            collection,
            tables,
            by_group,
            report.low_data,
            study,
            NOTE,
        )
    if study:
        readme(study, collection, tables, report.shown(study), output / "README.md", _asked(grid, where))
    return report


def _asked(grid: Grid, where: Mapping[str, Any]) -> str:
    """The overrides that chose what this report holds, as one would type them."""
    words = [] if grid.metric == TESTED[0] else [f"metric={grid.metric}"]
    words += [f"grid.replicates={_override(list(grid.replicates))}"] if grid.replicates else []
    words += [f"where={_override(where)}"] if where else []
    return shlex.join(words)


def _override(value: Any) -> str:
    """A value in the grammar of Hydra's overrides."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_override(one)}' for key, one in value.items())}}}"
    if isinstance(value, list):
        return f"[{','.join(map(_override, value))}]"
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _of_study(collection: Collection, where: Mapping[str, Any]) -> Collection:
    records = study_records(collection.records, where)
    if not records:
        raise UserError(f"no record is left: where={dict(where)}, and replicates from 102 up are for development")
    tested = {record["id"]: collection.tested[record["id"]] for record in records if record["id"] in collection.tested}
    return Collection(records, tested, collection.skipped)


def _fill(report: Report, tables: Sequence[Arms], grid: Grid, study: str | None) -> dict[Group, list[Shown]]:
    """The tables that have a group each, into the report; by group, all of them."""
    # cells on all real images are there to be compared with; their own questions belong to other studies
    about = [arms for arms in tables if study != "low_data" or arms.group.real_per_class is not None] or tables
    report.contrasts = contrast_tables(about, grid.arms, grid.family)
    by_group: dict[Group, list[Shown]] = {}
    for arms in tables:
        three, two = _tables(arms, grid)
        mixes = expected(tables, arms.group, grid.arms).mixes if arms in about else ()
        controls = _controls(arms, grid, study, mixes)
        report.table3 += three
        report.table2 += two
        report.controls += controls
        contrasts = [table for table in report.contrasts if table.group == arms.group]
        by_group[arms.group] = [*three, *two, *controls, *contrasts]
    return by_group


def _write_tables(report: Report, output: Path) -> None:
    """<name>.md and <name>.csv; of controls and low data only where there are any."""
    by_name: dict[str, Sequence[Shown]] = {"table2": report.table2, "table3": report.table3}
    by_name |= {"controls": report.controls, "low_data": report.low_data, "contrasts": report.contrasts}
    for name, wanted in by_name.items():
        if not wanted and name in ("controls", "low_data"):
            # nor of a report that was here before
            for ending in ("md", "csv"):
                (output / f"{name}.{ending}").unlink(missing_ok=True)
            continue
        note = {"contrasts": CONTRASTS_NOTE, "low_data": f"{LOW_DATA_NOTE}\n{NOTE}"}.get(name, NOTE)
        parts = [f"## {table.title}\n\n{table.heading}\n\n{table.markdown()}\n" for table in wanted]
        (output / f"{name}.md").write_text("\n".join([*parts, note]))
        rows = [row for table in wanted if isinstance(table, Table) for row in table.long()]
        if name != "contrasts":
            (output / f"{name}.csv").write_text(to_csv(LONG, rows))
    contrasts = [contrast.row() for table in report.contrasts for contrast in table.listed]
    (output / "contrasts.csv").write_text(to_csv(COLUMNS, contrasts))
    exchange = [row for table in report.low_data if isinstance(table, ExchangeTable) for row in table.long()]
    if exchange:
        (output / "exchange.csv").write_text(to_csv(EXCHANGE, exchange))
    else:
        (output / "exchange.csv").unlink(missing_ok=True)


def _clear_figures(folder: Path, sections: Sequence[str]) -> None:
    """Deletes figures of an earlier report whose groups or tables are no part of this one."""
    linked = set(re.findall(r"\(figures/(.+?)\.svg\)", "".join(sections)))
    for path in folder.iterdir():
        if path.name.startswith(FIGURES) and path.suffix in (".svg", ".png") and path.stem not in linked:
            path.unlink()


def _controls(arms: Arms, grid: Grid, study: str | None, declared: Sequence[str]) -> list[Table]:
    """All arms beside the controls, where the study is about them or the records hold one; low data has tables of its own."""
    about = study == "controls" or set(arms.mixes) & set(CONTROLS[1:])
    if not about or arms.group.real_per_class is not None:
        return []
    table2 = grid.table2_mixes if declared and arms.group.augment == "none" else []
    return controls_tables(arms, table2, declared)


def _low_data(tables: Sequence[Arms], grid: Grid, output: Path, report: Report, figures: bool) -> list[str]:
    lines = []
    for family in families(tables):
        own: list[LowDataTable | ExchangeTable] = [*low_data_tables(family, _mixes(grid)), exchange_table(family)]
        report.low_data += own
        lines += [f"## {table.title}\n\n{table.heading}\n\n{table.markdown()}\n" for table in own]
        lines.append(LOW_DATA_NOTE)
        slug = "-".join(["low_data", *map(str, family[0].group[:5])])
        if figures and low_data_figure(family, output / "figures" / slug):
            lines.append(_image(f"{capital(grid.metric)} by real images a class, a line a classifier and mix", slug))
    return lines


def _mixes(grid: Grid) -> list[str]:
    return list(dict.fromkeys(mix for part in grid.arms.values() for mix in part.mixes))


def _tables(arms: Arms, grid: Grid) -> tuple[list[Table], list[Table]]:
    """Tables 3 and 2: the declared rows first, then what the records hold beyond them."""
    mixes, classifiers = list(grid.table2_mixes), list(grid.table3_classifiers)
    mixes += [mix for mix in arms.mixes if mix not in mixes and arms.runs("mobilenet_v2", mix, "mean_pr")]
    classifiers += [name for name in arms.classifiers if name not in classifiers]
    three = [table3(arms, classifiers, grid.table3_mixes, metric) for metric in reversed(arms.metrics)]
    return three, [table2(arms, mixes)]


def _differences(shown: Sequence[Shown], output: Path, metric: str) -> list[str]:
    words = (
        "Differences with their 95 % intervals, cut off at the edge; orange: primary; hollow: too few pairs to judge"
    )
    tested = [table for table in shown if isinstance(table, ContrastTable) and table.metric == metric]
    return [
        _image(words, f"differences-{table.group.slug}")
        for table in tested
        if differences_figure(table, output / "figures" / f"differences-{table.group.slug}")
    ]


def _figures(arms: Arms, grid: Grid, output: Path, artifacts: Path) -> list[str]:
    slug, figures = arms.group.slug, output / "figures"
    lines = []
    if share_figure(arms, figures / f"share-{slug}"):
        lines.append(
            _image(f"{capital(arms.metric)} and AP (paper) by synthetic share, a line a classifier", f"share-{slug}")
        )
    mixes = [mix for mix in grid.table3_mixes if mix in arms.mixes]
    if mixes and confusion_figure(arms, arms.classifiers, mixes, figures / f"confusion-{slug}"):
        lines.append(_image("Confusion matrices, summed over runs", f"confusion-{slug}"))
    return [*lines, *_galleries(arms, output, artifacts)]


def _galleries(arms: Arms, output: Path, artifacts: Path) -> list[str]:
    """Figs. 5 and 6, or the sentence that says why they are not here."""
    slug, first = arms.group.slug, arms.records[0]
    if not galleries.may_show(arms.group.dataset, output, artifacts):
        return ["No images of the data set or of its banks: photographs are shown in reports under artifacts only.\n"]
    real, synthetic = galleries.real_images(first, artifacts), galleries.synthetic_images(arms.records, artifacts)
    lines = []
    if real is not None:
        samples_figure(real, arms.classes, output / "figures" / f"samples-{slug}")
        lines.append(_image("Images of each class (paper: Fig. 5)", f"samples-{slug}"))
    if real is not None and synthetic is not None:
        synthetic_beside_real(real, synthetic, arms.classes, output / "figures" / f"synthetic-{slug}")
        lines.append(_image("Synthetic beside real images of each class (paper: Fig. 6)", f"synthetic-{slug}"))
    else:
        lines.append("No synthetic images (Fig. 6): the records are here without their banks.\n")
    return lines


def _gan_section(collection: Collection, output: Path, artifacts: Path) -> str:
    found = galleries.histories(collection.records, artifacts)
    if gan_curves(found, output / "figures" / "gan_curves"):
        return "## GANs\n\n" + _image(
            "Losses, and the discriminator's accuracy on real and synthetic images", "gan_curves"
        )
    return "## GANs\n\nNo training curves: the records are here without their GANs.\n"


def _image(words: str, name: str) -> str:
    return f"![{words}](figures/{name}.svg)\n"


def declared(params: Mapping[str, Any], key: str) -> list[str]:
    """A comma list of `hydra.sweeper.params`, as a list."""
    if key not in params:
        raise UserError(f"the experiment declares no {key} in hydra.sweeper.params: {json.dumps(dict(params))}")
    return [item.strip() for item in str(params[key]).split(",")]
