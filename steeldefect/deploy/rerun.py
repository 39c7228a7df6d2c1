"""The command that trains one cell again, whatever sweep it came from: group choices, then every value that differs."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from steeldefect.runs.loggers import PATHS, public
from steeldefect.runs.settings import plain

GROUPS = ("dataset", "split", "gan", "classifier", "phases", "schedule", "scale")
# what cannot change the result, and what `plain` derives
LEFT_OUT = ("trainer", "logger", "partition_seed", "study", "keep_weights", "debug", "grid")
Compose = Callable[[Sequence[str]], DictConfig]


def cell_command(
    record: Mapping[str, Any], compose: Compose, choices: Mapping[str, Sequence[str]], artifacts: Path
) -> str:
    """`compose` gives the config of train_classifier for some overrides; `choices` the names in each config group.

    Paths are in no record: for each that was given the command has a word in capitals, but for `artifacts`, where the cell
    lies.
    """
    config = record["config"]
    names = {group: config[group]["name"] for group in GROUPS}
    if "updates" not in config["gan"]:
        # images that another generator made go by a name of their own
        names["gan"] = "folder"
    overrides = [f"{group}={name}" for group, name in names.items() if name in choices[group]]
    if record["mix"] in choices["mix"]:
        overrides.append(f"mix={record['mix']}")
    overrides.append(f"replicate={config['replicate']}")
    settings = plain(compose(overrides))
    composed = public(settings)
    default, wanted = dict(_leaves(composed)), dict(_leaves(config))
    if composed["split"].get("folds") is not None:
        # the fold follows from the replicate
        wanted.pop("split.fold", None)
    overrides += [f"{key}={_written(value)}" for key, value in wanted.items() if default.get(key, ...) != value]
    # records of before the paths were noted; such a data set lies nowhere by default
    given = record.get("paths_given", ["dataset.root"] if config["dataset"]["name"] == "image_folder" else [])
    overrides += [f"{key}={PATHS[key]}" for key in given]
    if Path(settings["artifacts"]) != artifacts:
        overrides.append(f"artifacts={artifacts}")
    return shlex.join(["python", "experiments/train_classifier.py", *overrides, "keep_weights=true"])


def _leaves(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in config.items():
        if not prefix and key in LEFT_OUT:
            continue
        found += _leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]
    return found


def _written(value: Any) -> str:
    """As Hydra's grammar takes it."""
    if isinstance(value, list):
        return "[" + ",".join(map(_written, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
