"""What a stage will take, from what finished stages of its kind took; from records and manifests alone."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from steeldefect.runs.errors import UserError
from steeldefect.runs.store import MANIFEST, read_json


class Kind(NamedTuple):
    """Stages of one kind cost the same a unit (an update, an epoch, an image)."""

    stage: str
    name: str
    image_size: int
    batch_size: int
    how: str


BANK = Kind("bank", "", 0, 0, "")
BEFORE = "bf16-mixed"  # of generators that were committed without theirs: all were made where a CPU had it


def kind_of(identity: Mapping[str, Any]) -> tuple[Kind, float] | None:
    """Kind and number of units of the stage that `identity` names; None for stages that take no time to speak of."""
    stage = identity["stage"]
    if stage in ("cell", "initial"):
        return _classifier(identity, identity["optimizer"], identity["precision"]), identity["updates"]
    if stage == "gan" and "images" in identity:  # gan=folder: nothing is trained
        return None
    if stage == "gan":
        return _gan(identity["gan"], identity.get("precision", BEFORE))
    if stage == "bank":
        return BANK, identity["count"]
    return None


def _classifier(of: Mapping[str, Any], optimizer: Mapping[str, Any], precision: str) -> Kind:
    own = of["classifier"]
    # augmentation is a small part of a step, so it makes no kind of its own
    how = f"{precision} {own.get('width', '')}"
    return Kind("classifier", own["name"], own["image_size"], optimizer["batch_size"], how)


def _gan(gan: Mapping[str, Any], precision: str) -> tuple[Kind, float]:
    unit = "updates" if gan["updates"] else "epochs"
    how = f"{precision} {gan['conditioning']} {unit}"
    return Kind("gan", gan["name"], gan["image_size"], gan["batch_size"], how), gan[unit]


class Costs:
    """Seconds a unit by kind: what this store has seen, and only where it has seen nothing, committed results."""

    def __init__(self, artifacts: Path, committed: Path | None = None) -> None:
        elsewhere = _grouped(_in_results(committed)) if committed else {}
        self.seconds = elsewhere | _grouped(_in_store(artifacts))

    def estimate(self, identity: Mapping[str, Any], updates: int | None = None) -> float | None:
        """Seconds of the whole stage, by the median of its kind; None where none was finished yet.

        `updates`: of a generator, where they are known; an epoch of few images is short.
        """
        found = kind_of(identity)
        if found is None:
            return 0.0
        kind, units = found
        if updates and identity["stage"] == "gan" and _by_update(kind) in self.seconds:
            kind, units = _by_update(kind), updates
        return median(self.seconds[kind]) * units if kind in self.seconds else None


def _by_update(kind: Kind) -> Kind:
    return kind._replace(how=kind.how.replace("epochs", "updates"))


def _grouped(measured: Iterator[tuple[Kind, float]]) -> dict[Kind, list[float]]:
    groups: dict[Kind, list[float]] = {}
    for kind, seconds in measured:
        groups.setdefault(kind, []).append(seconds)
    return groups


def _in_store(artifacts: Path) -> Iterator[tuple[Kind, float]]:
    made = (path for folder in ("gans", "banks") for path in sorted((artifacts / folder).glob(f"[!.]*/{MANIFEST}")))
    for path in made:
        manifest = _readable(path)
        found = kind_of(manifest["identity"]) if manifest else None
        if manifest and found:
            yield found[0], manifest["made"]["seconds"] / found[1]
            updates = manifest.get("summary", {}).get("updates")
            if updates and _by_update(found[0]) != found[0]:
                yield _by_update(found[0]), manifest["made"]["seconds"] / updates
    for folder in ("cells", "trials"):
        for path in sorted((artifacts / folder).glob("[!.]*/record.json")):
            yield from _of_record(_readable(path))


def _in_results(committed: Path) -> Iterator[tuple[Kind, float]]:
    for record in _lines(committed, "records.jsonl"):
        yield from _of_record(record)
        gan, bank = (record.get("upstream", {}).get(stage, {}) for stage in ("gan", "bank"))
        if gan.get("seconds") and _trained_here(record):
            kind, units = _gan(record["config"]["gan"], gan.get("precision", BEFORE))
            yield kind, gan["seconds"] / units
            if updates := _updates(record):
                yield _by_update(kind), gan["seconds"] / updates
        if bank.get("seconds") and record["config"]["bank"]["count"]:
            yield BANK, bank["seconds"] / record["config"]["bank"]["count"]
    for record in filter(_trained_here, _lines(committed, "generators.jsonl")):
        kind, units = _gan(record["config"]["gan"], record.get("precision", BEFORE))
        yield kind, record["seconds"]["gan"] / units
        if record.get("updates"):
            yield _by_update(kind), record["seconds"]["gan"] / record["updates"]


def _trained_here(record: Mapping[str, Any]) -> bool:
    """Not a folder of images (gan=folder)."""
    return "updates" in record["config"]["gan"]


def _updates(record: Mapping[str, Any]) -> int | None:
    """Of the record's generator, by its images; None where it has a length of its own or the mix does not tell them."""
    gan, real = record["config"]["gan"], record.get("counts", {}).get("real")
    told = real and record.get("real_per_class") is None and gan["conditioning"] != "per_class"
    return gan["epochs"] * math.ceil(real / gan["batch_size"]) if told and not gan["updates"] else None


def _lines(committed: Path, name: str) -> Iterator[dict[str, Any]]:
    for path in sorted(committed.rglob(name)):
        yield from map(json.loads, path.read_text().splitlines())


def _of_record(record: Mapping[str, Any] | None) -> Iterator[tuple[Kind, float]]:
    """Phase `retrain`, and phase `initial` where there was one."""
    if not record:
        return
    try:
        config, cost, updates = record["config"], record["cost"], record["updates"]
        kind = _classifier(config, config["optimizer"], record["environment"]["precision"])
        yield kind, cost["seconds"] / updates["retrain"]
        if updates.get("initial") and "seconds_initial" in cost:
            yield kind, cost["seconds_initial"] / updates["initial"]
    except (KeyError, TypeError):  # written by another version: no estimate comes of it, that is all
        return


def _readable(path: Path) -> dict[str, Any] | None:
    try:
        return read_json(path)
    except UserError:
        return None


def span(seconds: float | None) -> str:
    """`2.5 h`, `12 min`, `40 s`, or `unknown`."""
    if seconds is None:
        return "unknown"
    if seconds >= 2 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
