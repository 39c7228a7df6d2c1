"""The table of generators, from the records that experiments/evaluate_gan.py leaves."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table as RichTable

from steeldefect.report.arms import matching
from steeldefect.report.collect import Record
from steeldefect.report.costs import BEFORE
from steeldefect.report.provenance import KEPT
from steeldefect.report.statistics import Estimate, Run, estimate
from steeldefect.report.tables import number, to_csv
from steeldefect.runs.errors import UserError
from steeldefect.runs.identities import MEASURED, seen_through
from steeldefect.runs.identity import canonical
from steeldefect.runs.portable import without_path, without_paths
from steeldefect.runs.store import MANIFEST, read_json

STUDIES = ("generators", "generators_ablation")
RECORDS = "generators.jsonl"
COLUMNS = ("dataset", "split", "scale", "gan", "class", "metric", "mean", "low", "high", "n_runs")
# metric -> its column in the printed table and whether it is a fraction, printed in percent; in this order
METRICS = {
    "kid": ("KID", False),
    "kid_floor": ("KID, real", False),
    "kid_between_classes": ("KID between classes", False),
    "density": ("density", False),
    "density_real": ("density, real", False),
    "coverage": ("coverage %", True),
    "coverage_real": ("coverage, real %", True),
    "gan_test": ("GAN-test %", True),
    "gan_train": ("GAN-train %", True),
    "gan_test_real": ("both, real %", True),
    "copies_share": ("copies %", True),
    "diversity": ("diversity", False),
    "diversity_drawn": ("diversity, as drawn", False),
    "diversity_real": ("diversity, real", False),
    "spectrum": ("checkerboard", False),
    "spectrum_real": ("checkerboard, real", False),
}
NOTE = """\
Each figure: mean over runs (replicates), [95 % t interval over runs], n = runs; means over the classes unless a class
is named. One real image a scene and equal counts throughout. KID, density and coverage hold a set against held-out
real images, the synthetic one, and as *real* the training images. KID: squared MMD under the cubic kernel on
EfficientNet-Lite0 (ImageNet) features; gan=projected is trained on the same features, so these three flatter it.
GAN-test: balanced accuracy on synthetic images of a classifier trained on real ones; GAN-train: trained on synthetic,
tested on held-out real ones; *both, real*: trained on real, tested on held-out real. Copies: above the 99 % quantile of
held-out real images' largest shift correlation with a training image. Checkerboard: power at the frequencies of a
stride over the median around each, the largest of the strides. Diversity: mean standard deviation of a pixel's gray
level within a class, gray levels; *as drawn*: before flips and shifts, which give even one image over and over a spread.
Both last beside held-out real images. A bank drawn as its discriminator saw
images (as_seen: flips and shifts) brings an augmentation that no real image here has.
"""


def collect_generators(*sources: Path) -> list[Record]:
    """Records of `source`/quality, else of every generators.jsonl in `source` or below; each id once, sorted."""
    unique = {record["id"]: record for source in reversed(sources) for record in _records(source)}
    return sorted(
        unique.values(), key=lambda r: (r["dataset"], r["split"], r["scale"], r["gan"], r["replicate"], r["id"])
    )


def _records(source: Path) -> list[Record]:
    finished = sorted(path.parent for path in (source / "quality").glob(f"[!.]*/{MANIFEST}"))
    if finished:
        return [read_json(folder / "record.json") for folder in finished]
    lines = [line for path in sorted(source.rglob(RECORDS)) for line in path.read_text().splitlines()]
    if not lines:
        raise UserError(f"source={source}: holds neither quality/<id>/{MANIFEST} nor {RECORDS}: make quality")
    return [json.loads(line) for line in lines]


def write_generators(
    records: Sequence[Record], output: Path, study: str, where: Mapping[str, Any] | None = None
) -> list[RichTable]:
    """README.md, summary.csv and generators.jsonl in `output`; the tables for the terminal.

    Variants of a generator are told apart by the settings in which they differ, in the `gan` column.
    """
    chosen = matching(records, where or {})
    if not chosen:
        raise UserError(f"no record is left: where={dict(where or {})}")
    tables = _tables(chosen)
    output.mkdir(parents=True, exist_ok=True)
    (output / "summary.csv").write_text(to_csv(COLUMNS, _long(tables)))
    lines = [json.dumps(without_paths(record), sort_keys=True, allow_nan=False) for record in chosen]
    (output / RECORDS).write_text("\n".join(lines) + "\n")
    readme = output / "README.md"
    by_hand = readme.read_text().partition(KEPT)[2] if readme.exists() else "\n"
    sections = [f"# {study}\n", NOTE, *(part for group in tables for part in _markdown(group, tables[group]))]
    readme.write_text("\n".join([*sections, _provenance(chosen, study), KEPT]) + by_hand)
    return [_rich(group, tables[group]) for group in tables]


# (dataset, split, scale) -> (gan or its variant, class) -> metric -> estimate
Group = tuple[str, str, str]
Rows = dict[tuple[str, str], dict[str, Estimate]]


def _tables(records: Sequence[Record]) -> dict[Group, Rows]:
    tables: dict[Group, Rows] = {}
    for group in sorted({_group(record) for record in records}):
        own = [record for record in records if _group(record) == group]
        _require_alike(own, group)
        names = _variants(own)
        rows: Rows = {}
        for name in dict.fromkeys(names[record["id"]] for record in own):
            runs = [record for record in own if names[record["id"]] == name]
            _require_single(runs, name)
            for index, of in enumerate(("all", *own[0]["classes"])):
                found = {metric: _estimate(runs, metric, index - 1) for metric in METRICS}
                rows[name, of] = {metric: value for metric, value in found.items() if value is not None}
        tables[group] = rows
    return tables


def _group(record: Record) -> Group:
    return record["dataset"], record["split"], record["scale"]


def _estimate(runs: Sequence[Record], metric: str, index: int) -> Estimate | None:
    """Of class `index`, -1: the mean over the classes that have a figure; None where no run has one."""
    values = []
    for record in runs:
        figures = record["figures"].get(metric) or []
        known = [value for c, value in enumerate(figures) if value is not None and index in (-1, c)]
        if known:
            values.append(Run(float(np.mean(known))))
    return estimate(values, fraction=METRICS[metric][1], bounded=False) if values else None


def _settings(record: Record) -> dict[str, Any]:
    """What makes a generator's images what they are, flat."""
    config, bank = record["config"], record["config"]["bank"]
    flat = {key: value for key, value in _flat(config["gan"]) if key not in ("name", "sheet_every")}
    flat["real_per_class"] = record["real_per_class"]
    flat["snapshot"] = config["quality"]["snapshot"]
    # banks were drawn straight before there was a choice
    through = seen_through(config) if "as_seen" in bank else []
    flat["as_seen"] = through if isinstance(bank.get("as_seen"), list) else bool(through)
    # the judges of a machine without bf16 are float32 too
    flat["precision"] = record.get("precision", BEFORE)
    flat["filter"] = bank["filter"]
    flat["filter_keep"] = bank["filter_keep"] if bank["filter"] else None
    return flat


def _flat(part: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in part.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _variants(records: Sequence[Record]) -> dict[str, str]:
    """Record id -> `edcgan`, or where runs of one name differ, `edcgan filter=classifier`."""
    names: dict[str, str] = {}
    for gan in {record["gan"] for record in records}:
        settings = {record["id"]: _settings(record) for record in records if record["gan"] == gan}
        keys = sorted({key for flat in settings.values() for key in flat})
        differ = [key for key in keys if len({canonical(flat.get(key)) for flat in settings.values()}) > 1]
        for identifier, flat in settings.items():
            # a value that is not there (no filter) says nothing
            told = [f"{key}={_short(flat[key])}" for key in differ if flat.get(key) is not None]
            names[identifier] = " ".join([gan, *told])
    return names


def _short(value: Any) -> str:
    return json.dumps(value, separators=(",", ":")).strip('"')


def _require_alike(records: Sequence[Record], group: Group) -> None:
    """One table must not mix ways of measuring."""
    ways: dict[str, list[str]] = {}
    for record in records:
        quality = record["config"]["quality"]
        way = {key: quality[key] for key in MEASURED} | {"recipe": record["recipe"], "classes": record["classes"]}
        way |= {"dataset": record["ids"]["dataset"], "classifier": quality["classifier"], "lr": quality["optimizer"]}
        ways.setdefault(json.dumps(way, sort_keys=True), []).append(record["id"])
    if len(ways) > 1:
        first, second, *_ = (json.loads(way) for way in ways)
        keys = ", ".join(key for key in first if first[key] != second[key])
        ids = "; ".join(", ".join(found[:3]) for found in ways.values())
        raise UserError(
            f"{'/'.join(group)}: records measured in different ways ({keys}) must not stand in one table: {ids}; choose "
            "with where, such as 'where={quality.draws: 10}'"
        )


def _require_single(runs: Sequence[Record], name: str) -> None:
    seen: dict[int, str] = {}
    for record in runs:
        other = seen.setdefault(record["replicate"], record["id"])
        if other != record["id"]:
            raise UserError(f"{other} and {record['id']} are both {name}, replicate {record['replicate']}: remove one")


def _long(tables: Mapping[Group, Rows]) -> Iterable[dict[str, Any]]:
    for (dataset, split, scale), rows in tables.items():
        for (gan, of), figures in rows.items():
            shared = {"dataset": dataset, "split": split, "scale": scale, "gan": gan, "class": of}
            for metric, found in figures.items():
                values = {"mean": found.mean, "low": found.low, "high": found.high}
                numbers = {key: number(value, 1, 6) for key, value in values.items()}
                yield shared | {"metric": metric, "n_runs": found.n_runs} | numbers


def _text(metric: str, found: Estimate | None) -> str:
    if found is None:
        return "-"
    factor, digits = (100, 1) if METRICS[metric][1] else (1, 3)
    mean, low, high = (
        None if value is None else f"{factor * value + 0.0:.{digits}f}" for value in (found.mean, found.low, found.high)
    )
    return f"{mean} [{low}, {high}] n={found.n_runs}" if low is not None else f"{mean} n={found.n_runs}"


def _markdown(group: Group, rows: Rows) -> Iterable[str]:
    """A row a generator, then a table a generator with a row a class."""
    dataset, split, scale = group
    yield f"## dataset={dataset} split={split} scale={scale}\n"
    overall = [(gan, figures) for (gan, of), figures in rows.items() if of == "all"]
    yield _grid("gan", overall)
    for name, _ in overall:
        yield f"### {name}, by class\n"
        yield _grid("class", [(of, figures) for (gan, of), figures in rows.items() if gan == name and of != "all"])


def _grid(corner: str, rows: Sequence[tuple[str, Mapping[str, Estimate]]]) -> str:
    head = [corner, *(title for title, _ in METRICS.values())]
    lines = [head, ["---"] * len(head)]
    lines += [[name, *(_text(metric, figures.get(metric)) for metric in METRICS)] for name, figures in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _rich(group: Group, rows: Rows) -> RichTable:
    """Metrics down, generators across: a terminal is not wide enough for the other way."""
    overall = {gan: figures for (gan, of), figures in rows.items() if of == "all"}
    table = RichTable(title="generators, means over classes", caption="/".join(group), box=box.SIMPLE_HEAD)
    table.add_column("")
    for gan in overall:
        table.add_column(gan, justify="right", overflow="fold")
    for metric, (title, _) in METRICS.items():
        table.add_row(title, *(_text(metric, figures.get(metric)) for figures in overall.values()))
    return table


def _provenance(records: Sequence[Record], study: str) -> str:
    environments = [record["environment"] for record in records]
    commands = sorted({without_path(str(one["command"])) for one in environments})
    parts = sorted({record["part"] for record in records})
    sizes = [size for record in records for size in record["set_sizes"]]
    trainings = {record["ids"]["gan"]: record["seconds"]["gan"] for record in records}  # a GAN may have several banks
    lines = [
        "## Provenance\n",
        f"- {len(records)} runs, replicates {', '.join(map(str, sorted({r['replicate'] for r in records})))}; "
        f"GAN-train tested on: {', '.join(parts)}.",
        f"- Images of a class in a set (scenes held out): {min(sizes)} to {max(sizes)}.",
        f"- Hours of GAN training: {sum(trainings.values()) / 3600:.2f}.",
        f"- Machines: {'; '.join(sorted({one['machine'] for one in environments}))}; "
        f"torch {', '.join(sorted({one['torch'] for one in environments}))}; "
        f"commits {', '.join(sorted({str(one['commit']) for one in environments}))}.",
        *_copies(records),
        *_judges(records),
        "\n```",
        *commands,
        "```\n",
        f"Written by `python experiments/report.py source=DIR output=DIR study={study}`.\n",
    ]
    return "\n".join(lines)


def _copies(records: Sequence[Record]) -> list[str]:
    """The threshold is the largest value of a few scenes, so it is told where it lies and how near the images come."""
    told = {
        f"{record['gan']} {record['replicate']}: {found['threshold']:.2f}, {found['largest']:.2f}"
        for record in records
        if (found := record["copies"])
    }
    return [f"- Copies, by run: threshold, largest value of a synthetic image: {'; '.join(sorted(told))}."]


def _judges(records: Sequence[Record]) -> list[str]:
    """Classifiers that did not learn their own images say nothing about a generator: they are named."""
    failed = [
        f"{record['gan']} replicate {record['replicate']} ({kind} images: {judge['train_accuracy']:.2f})"
        for record in records
        for kind, judge in sorted(record["judges"].items())
        if not judge["trained"]
    ]
    return [f"- **Judges under 90 % on their own training images: {'; '.join(failed)}.**"] if failed else []
