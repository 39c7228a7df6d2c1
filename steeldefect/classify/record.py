"""The record of a cell: everything the report reads, no path of the machine."""

from typing import Any

from steeldefect.runs.context import Context
from steeldefect.runs.device import accelerator_kind, available_threads
from steeldefect.runs.environment import command_line, git_commit, machine, versions
from steeldefect.runs.identities import RECIPES
from steeldefect.runs.loggers import public
from steeldefect.runs.settings import mix_counts

TRAINED = 0.9  # training accuracy below which a cell counts as not trained (protocol, "Updates")


def cell_record(
    context: Context,
    identifier: str,
    initial_id: str | None,
    test: dict[str, Any],
    validation: dict[str, float] | None,
    train_accuracy: float,
) -> dict[str, Any]:
    settings = context.settings
    mix, share = settings["mix"], settings["mix"]["synthetic_share"]
    counts = {
        "real": 0 if share == 1 else sum(context.real_counts),
        "synthetic": sum(mix_counts(context.real_counts, share, mix["balance"])),
        "validation": len(context.split.validation),
        "test": len(context.split.test),
        "test_overlapping_share": context.overlapping_share,
    }
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
        "synthetic_share": share,
        "augment": settings["augment"],
        "real_per_class": settings["real_per_class"],
        "classifier": settings["classifier"]["name"],
        **{key: settings[key] for key in ("replicate", "split_seed", "gan_seed", "train_seed")},
        "ids": {
            "dataset": context.images.content,
            "split": context.split_id,
            "gan": context.gan_id if with_bank else None,
            "bank": context.bank_id,
            "initial": initial_id,
        },
        "config": public(settings),
        "classes": list(context.images.classes),
        "counts": counts,
        "updates": {phase: context.updates(phase) for phase in ("initial", "retrain")},
        **test,
        "validation": validation,
        "train_accuracy": train_accuracy,
        "trained": train_accuracy >= TRAINED,
        "environment": {
            "commit": git_commit(),
            "command": command_line(),
            "device": accelerator_kind(settings["trainer"]["accelerator"]),
            "machine": machine(),
            "precision": context.precision("classifier"),
            # the same digits come again on such a machine, with these versions and as many threads; elsewhere the last
            # ones may differ
            "deterministic": settings["trainer"]["deterministic"],
            "threads": available_threads(settings["trainer"]["threads"]),
            **versions(),
        },
    }
