"""The record of a cell: everything the report reads, no path of the machine."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from steeldefect.runs.context import Context
from steeldefect.runs.device import accelerator_kind, available_threads, gpu_name
from steeldefect.runs.environment import command_line, git_commit, machine, versions
from steeldefect.runs.identities import RECIPES
from steeldefect.runs.loggers import paths_given, public
from steeldefect.runs.mixes import keeps_originals
from steeldefect.runs.settings import cell_seed

TRAINED = 0.9  # training accuracy below which a cell counts as not trained (protocol, "Updates")


@dataclass(frozen=True)
class Answers:
    """Logits `(n, classes)` and labels `(n,)` of one part, and their `metrics`, `per_class` and `confusion`."""

    logits: np.ndarray
    labels: np.ndarray
    found: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    test: Answers | None  # None in a trial
    validation: Answers | None  # None where there is no such part, and in low data
    train_accuracy: float
    selected: dict[str, float] | None  # the epoch of select=validation


def cell_record(context: Context, identifier: str, initial_id: str | None, outcome: Outcome) -> dict[str, Any]:
    settings = context.settings
    validation = outcome.validation
    with_bank = context.bank_id is not None
    return {
        "schema": 1,
        "id": identifier,
        "recipe": RECIPES["cell"],
        "dataset": settings["dataset"]["name"],
        "split": settings["split"]["name"],
        "scale": settings["scale"]["name"],
        "schedules": context.schedules,
        "gan": settings["gan"]["name"] if with_bank else "none",
        "mix": context.mix,
        "synthetic_share": _synthetic_share(context),
        "augment": settings["augment"],
        "select": settings["select"],
        "real_per_class": settings["real_per_class"],
        "classifier": settings["classifier"]["name"],
        **{key: settings[key] for key in ("replicate", "repeat", "split_seed", "gan_seed")},
        "train_seed": cell_seed(settings),
        "ids": {
            "dataset": context.images.content,
            "split": context.split_id,
            "gan": context.gan_id if with_bank else None,
            "bank": context.bank_id,
            "initial": initial_id,
            "weights": context.weights_id,
        },
        "config": public(settings),
        "paths_given": paths_given(settings),
        "classes": list(context.images.classes),
        "counts": _counts(context),
        "updates": {phase: context.updates(phase) for phase in ("initial", "retrain")},
        **(outcome.test.found if outcome.test else {}),
        "validation": validation.found["metrics"] if validation else None,
        "selected": outcome.selected,
        "train_accuracy": outcome.train_accuracy,
        # the labels of `shuffled` are wrong, and that they are not learnt is what the control is there to show
        "trained": settings["mix"]["kind"] == "shuffled" or outcome.train_accuracy >= TRAINED,
        "environment": {
            "commit": git_commit(),
            "command": command_line(),
            "device": accelerator_kind(settings["trainer"]["accelerator"]),
            "machine": machine(gpu_name(settings["trainer"]["accelerator"])),
            "precision": context.precision("classifier"),
            # the same digits come again on such a machine, with these versions and as many threads; elsewhere the last
            # ones may differ
            "deterministic": settings["trainer"]["deterministic"],
            "threads": available_threads(settings["trainer"]["threads"]),
            **versions(),
        },
    }


def _counts(context: Context) -> dict[str, Any]:
    """Images by part: different real ones, those of the bank, and what other mixes add (draws, repetitions)."""
    kind = context.settings["mix"]["kind"]
    added, with_bank = sum(context.added_counts), context.bank_id is not None
    originals = sum(context.real_counts) if keeps_originals(context.settings["mix"]) else 0
    counts = {
        "real": originals + (added if kind == "real_extra" else 0),
        "synthetic": added if with_bank else 0,
        "validation": 0 if context.settings["real_per_class"] else len(context.split.validation),
        "test": len(context.split.test),
        "test_overlapping_share": context.overlapping_share,
        "real_scenes": context.real_scenes,
    }
    return counts | ({} if with_bank or kind in ("bank", "real_extra") else {kind: added})


def _synthetic_share(context: Context) -> float:
    """Of the bank's images in the mix; as configured, where a share is."""
    mix = context.settings["mix"]
    if context.bank_id is None:
        return 0.0
    added = sum(context.added_counts)
    return added / (sum(context.real_counts) + added) if mix["synthetic_share"] is None else mix["synthetic_share"]
