"""A cell that was trained more than once (`repeat`): one record for all of it, and what another training is worth."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from steeldefect.report.collect import Record
from steeldefect.runs.errors import UserError

# of a config: what the cells of a pair must have alike; their mix, its bank and the updates of schedule=paper may differ
TRAINED_BY = ("classifier", "optimizer", "phases", "select")
# of mix, gan and bank: what a replicate has of its own, and what changes no image
NO_RESULT = ("seed", "sheet_every", "root", "export", "count")
ADVICE = (
    "move the others out of source, choose with where, such as 'where={recipe: 1}' or 'where={optimizer.lr: 0.03}', or give "
    "each way an artifacts= of its own"
)


def cells(records: Sequence[Record]) -> list[Record]:
    """One record a classifier, mix and replicate of one group: the mean of its repeats, where there are several.

    `UserError` where two are no repeats of each other, or differ in more than the seed of their training.
    """
    places: dict[tuple[str, str, int], list[Record]] = {}
    for record in records:
        own = places.setdefault((record["classifier"], record["mix"], record["replicate"]), [])
        if own:
            _require_repeat(own, record)
        own.append(record)
    return [_mean(own) for own in places.values()]


def trainings(cell: Record) -> Sequence[Record]:
    """The records behind one of `cells`: those that trained, or where none did all of them."""
    behind: Sequence[Record] = cell.get("trainings", [cell])
    return behind


def _mean(repeats: Sequence[Record]) -> Record:
    """Every training that passed the gate weighs the same; one that did not enters no mean, as a cell would not."""
    own = [record for record in repeats if record["trained"]] or list(repeats)
    if len(own) == 1:
        return own[0]
    mean = {part: _means([record[part] for record in own]) for part in ("metrics", "per_class", "cost")}
    confusion = np.mean([record["confusion"] for record in own], axis=0).tolist()
    return own[0] | mean | {"confusion": confusion, "trainings": own}


def _means(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    shared = [key for key in parts[0] if all(part.get(key) is not None for part in parts)]
    return {key: np.mean([part[key] for part in parts], axis=0).tolist() for key in shared}


def _require_repeat(repeats: Sequence[Record], record: Record) -> None:
    other = next((one for one in repeats if repeat_of(one) == repeat_of(record)), None)
    if other is not None:
        keys = sorted(set(differing(other["config"], record["config"])))
    else:
        other = repeats[0]
        keys = sorted(set(differing(_made_of(other), _made_of(record))))
        if not keys:
            return
    told = f"they differ in {', '.join(keys[:4])}" if keys else "their configs are the same"
    raise UserError(
        f"cells {other['id']} and {record['id']} are both {record['classifier']} on {record['mix']}, replicate "
        f"{record['replicate']}; {told}; {ADVICE}"
    )


def way(record: Record) -> dict[str, Any]:
    """How a classifier was trained, whatever on."""
    shown = {key: record["config"].get(key) for key in TRAINED_BY}
    return shown | {"weights": record["ids"].get("weights"), "precision": record["environment"]["precision"]}


def require_pooled(records: Sequence[Record]) -> None:
    """`UserError` where the replicates of an arm were trained, or their banks made, in different ways.

    Machines and with them precisions may differ, and of a generator a record may lack a key that came later.
    """
    first: dict[tuple[str, str], Record] = {}
    for record in records:
        other = first.setdefault((record["classifier"], record["mix"]), record)
        trained = [name for name in differing(way(other), way(record)) if name != "precision"]
        keys = sorted({*trained, *_differing_in_both(_generated(other), _generated(record))})
        if keys:
            raise UserError(
                f"cells {other['id']} and {record['id']}: {record['classifier']} on {record['mix']}, replicates "
                f"{other['replicate']} and {record['replicate']}, differ in {', '.join(keys[:4])}; {ADVICE}"
            )


def _generated(record: Record) -> dict[str, Any]:
    """What made the images of a mix, where it has a bank."""
    parts = ("mix", *(("gan", "bank") if record["gan"] != "none" else ()))
    return {part: record["config"][part] for part in parts if record["config"].get(part) is not None}


def _differing_in_both(one: Any, other: Any, prefix: str = "") -> Iterable[str]:
    """`differing`, in the keys that both have."""
    if not isinstance(one, Mapping) or not isinstance(other, Mapping):
        return [prefix] if one != other else []
    shared = [key for key in one if key in other and key not in NO_RESULT]
    return [name for key in shared for name in _differing_in_both(one[key], other[key], f"{prefix}.{key}".lstrip("."))]


def _made_of(record: Record) -> dict[str, Any]:
    """All that determines a cell of one group but its seed: not the generator of a bank that is not in the mix, nor a name."""
    ids = {stage: record["ids"].get(stage) for stage in ("split", "bank")}
    return way(record) | {"mix": record["config"].get("mix"), "updates": record.get("updates"), "ids": ids}


def repeat_of(record: Record) -> int:
    """0 in records of before there were repeats."""
    return int(record.get("repeat", 0))


def differing(one: Any, other: Any, prefix: str = "") -> Iterable[str]:
    """The dotted keys in which two configs differ."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in sorted(set(one) | set(other)):
            yield from differing(one.get(key), other.get(key), f"{prefix}.{key}" if prefix else key)
    elif one != other:
        yield prefix


def counted(records: Sequence[Record]) -> str:
    """`8 cells`, or where some were trained more than once `16 trainings of 8 cells`."""
    places = len({_place(record) for record in records})
    return f"{places} cells" if places == len(records) else f"{len(records)} trainings of {places} cells"


def fact(records: Sequence[Record]) -> str:
    """How many trainings a cell had, and how far they lie apart; empty where each had one."""
    places: dict[Hashable, list[Record]] = {}
    for record in records:
        places.setdefault(_place(record), []).append(record)
    several = [own for own in places.values() if len(own) > 1]
    if not several:
        return ""
    arms: dict[tuple[str, str], list[list[Record]]] = {}
    for own in several:
        arms.setdefault((own[0]["classifier"], own[0]["mix"]), []).append(own)
    told = "; ".join(_counted(*arm, own) for arm, own in sorted(arms.items()))
    spread = "; ".join(_spread(name, several) for name in sorted({name for name, _ in arms}))
    return (
        f"Trainings of a cell (`repeat`): {told}; of all others one. The mean of those that trained enters, and a cell is "
        f"trained where one of them is; n counts replicates. Standard deviation of the accuracy of one training of a cell: "
        f"{spread}."
    )


def _counted(classifier: str, mix: str, places: Sequence[Sequence[Record]]) -> str:
    counts = sorted({len(own) for own in places})
    failed, whole = sum(not record["trained"] for own in places for record in own), sum(len(own) for own in places)
    each = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    return f"{classifier} {mix} {each} in {len(places)}" + (f" ({failed} of {whole} not trained)" if failed else "")


def _spread(classifier: str, places: Sequence[Sequence[Record]]) -> str:
    own = [
        [r["metrics"]["accuracy"] for r in place if r["trained"] and r["classifier"] == classifier] for place in places
    ]
    several = [values for values in own if len(values) > 1]
    freedom = sum(len(values) - 1 for values in several)
    if not freedom:
        return f"{classifier} not known"
    squares = sum(float(np.var(values)) * len(values) for values in several)
    return f"{classifier} {100 * np.sqrt(squares / freedom):.1f} points ({len(several)} cells)"


def _place(record: Record) -> Hashable:
    ids = record["ids"]
    keys = ("scale", "classifier", "mix", "augment", "real_per_class", "replicate", "recipe")
    stages = (ids.get("split"), ids.get("bank"), tuple(record["schedules"]), str(record.get("updates")))
    return (*(record[key] for key in keys), *stages)
