"""Train one cell: phase `initial` (shared between mixes), phase `retrain` on the mix, one evaluation, one record."""

import csv
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.loggers import WandbLogger

from steeldefect.classify.metrics import by_overlap, evaluate
from steeldefect.classify.module import ClassifierModule, logits_of, train_accuracy
from steeldefect.classify.parts import Part, added_part, phase_data
from steeldefect.classify.record import Answers, Outcome, cell_record
from steeldefect.classify.selection import BEST, BestEpoch
from steeldefect.data.datamodule import MixDataModule
from steeldefect.data.resize import resize
from steeldefect.runs.context import Context
from steeldefect.runs.errors import UserError
from steeldefect.runs.identity import derived_seed, digest
from steeldefect.runs.loggers import wandb_run
from steeldefect.runs.settings import cell_seed
from steeldefect.runs.store import Work, write_json
from steeldefect.runs.training import SCRATCH, fit, save_weights, seed_everything

log = logging.getLogger(__name__)


def train_cell(context: Context) -> str:
    """The id of the cell, trained if it is not there yet. evaluate=validation makes a trial, which reads no test part."""
    store, identity, settings = context.store, context.cell_identity, context.settings
    identifier, kind = digest(identity), "trials" if settings["evaluate"] == "validation" else "cells"
    weights = store.folder(kind, identifier) / "weights.pt"
    # a finished cell that kept no weights is trained again for them; the old folder stays until the new one is whole
    again = settings["keep_weights"] and not weights.is_file()
    with store.write(kind, identity, again=again) as work:
        if work is None:
            log.info("%s %s is finished: %s", kind[:-1], identifier, store.folder(kind, identifier))
            return identifier
        best = _best_epoch(context, work.folder)
        added = added_part(context)
        initial_id = _initial(context, added)
        tags = [context.mix, settings["classifier"]["name"]]
        with wandb_run(settings, kind[:-1], identifier, title(context), tags) as loggers:
            module = _new_module(context)
            if initial_id is not None:
                folder = store.need("initials", initial_id, context.command("train_classifier"))
                module.network.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
            data = phase_data(context, added, "retrain")
            seconds = _fit(context, module, data, work, "retrain", loggers, best)
            selected = best.restore(module) if best else None
            outcome = _outcome(context, module, data, selected)
            record = cell_record(context, identifier, initial_id, outcome)
            record["cost"] = _cost(context, initial_id, module, min(data.batch_size, len(data.labels)), seconds)
            for logger in loggers:
                if isinstance(logger, WandbLogger) and outcome.test is not None:
                    _log_results(logger, record)
        _leave(context, module, record, outcome, work)
    log.info("%s %s %s: %s", kind[:-1], identifier, title(context), _told(record))
    if missed := _missed(record):
        told = "; ".join(f"no image of {name} was called {name}" for name in missed)
        log.warning("%s %s %s: %s", kind[:-1], identifier, title(context), told)
    return identifier


def title(context: Context) -> str:
    settings, k = context.settings, context.settings["real_per_class"]
    parts = [settings["classifier"]["name"], context.mix, *([] if k is None else [f"k{k}"])]
    parts += ["augmented"] if settings["augment"] != "none" else []
    return "-".join(
        [*parts, f"r{settings['replicate']}", *([f"again{settings['repeat']}"] if settings["repeat"] else [])]
    )


def _told(record: dict[str, Any]) -> str:
    if "metrics" in record:
        metrics = record["metrics"]
        shown = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "mean_pr": "AP (paper)"}
        told = ", ".join(f"{name} {metrics[key]:.4f}" for key, name in shown.items())
    else:
        told = f"validation accuracy {record['validation']['accuracy']:.4f}"
    if record["trained"]:
        return told
    return f"{told}; not trained: {100 * record['train_accuracy']:.1f} % of its own training images right"


def _missed(record: dict[str, Any]) -> list[str]:
    """The classes of which there are test images and none was found; empty for a trial."""
    rows = enumerate(record.get("confusion", []))
    return [record["classes"][k] for k, row in rows if sum(row) and not row[k]]


def _best_epoch(context: Context, folder: Path) -> BestEpoch | None:
    """None under select=last."""
    settings, part = context.settings, context.split.validation
    for key in ("select", "evaluate"):
        if settings[key] == "validation" and not len(part):
            raise UserError(f"{key}=validation: there are no validation images; set split.validation_fraction above 0")
    if settings["select"] == "last":
        return None
    images = resize(context.images.images[part], settings["classifier"]["image_size"])
    labels = torch.from_numpy(context.images.labels[part])
    return BestEpoch(images, labels, context.precision("classifier"), folder)


def _initial(context: Context, added: Part | None) -> str | None:
    """Phase `initial`, made once for all mixes that share it."""
    identity = context.initial_identity
    if identity is None:
        return None
    with context.store.write("initials", identity, wait=True) as work:
        if work is not None:
            module = _new_module(context)
            seconds = _fit(context, module, phase_data(context, added, "initial"), work, "initial", [])
            save_weights(module.network.state_dict(), work.folder / "weights.pt")
            work.summary |= {"seconds": seconds, "updates": context.updates("initial")}
            work.scratch += SCRATCH
    return digest(identity)


def _new_module(context: Context) -> ClassifierModule:
    settings = context.settings
    seed_everything(derived_seed("classifier", "init", cell_seed(settings)))
    return ClassifierModule(settings["classifier"], settings["optimizer"], len(context.images.classes))


def _fit(
    context: Context,
    module: ClassifierModule,
    data: MixDataModule,
    work: Work,
    phase: str,
    loggers: list[Any],
    best: BestEpoch | None = None,
) -> float:
    """Seconds of the training, those of earlier tries with them."""
    settings, started = context.settings, time.monotonic()
    work.seconds_before = fit(
        module,
        data,
        settings,
        work.folder,
        context.precision("classifier"),
        derived_seed("classifier", phase, cell_seed(settings)),
        f"{title(context)} {phase}",
        loggers,
        {"max_steps": context.updates(phase), "max_epochs": -1},
        [best] if best else None,
    )
    return work.seconds_before + time.monotonic() - started


def _outcome(
    context: Context, module: ClassifierModule, data: MixDataModule, selected: dict[str, float] | None
) -> Outcome:
    """The only place where labels of the test part are asked for, once; never by a trial."""
    images, split, settings = context.images, context.split, context.settings
    precision, size = context.precision("classifier"), settings["classifier"]["image_size"]

    def results(part: np.ndarray) -> Answers:
        logits = logits_of(module, resize(images.images[part], size), precision).numpy()
        labels = images.labels[part]
        return Answers(logits, labels, evaluate(logits, labels, len(images.classes)))

    test = results(split.test) if settings["evaluate"] == "test" else None
    if test is not None and context.overlapping is not None:
        test.found["metrics"] |= by_overlap(test.logits, test.labels, context.overlapping)
    return Outcome(
        test,
        # in low data nothing may be chosen on these, so nobody sees them (protocol, "Low data")
        results(split.validation) if len(split.validation) and settings["real_per_class"] is None else None,
        train_accuracy(module, data, precision),
        selected,
    )


def _cost(
    context: Context, initial_id: str | None, module: ClassifierModule, batch_size: int, seconds: float
) -> dict[str, Any]:
    cost = {
        "seconds": round(seconds, 3),
        "images_per_second": round(context.updates("retrain") * batch_size / seconds, 1),
        "parameters": sum(p.numel() for p in module.network.parameters()),
    }
    if initial_id is not None:
        cost["seconds_initial"] = context.store.manifest("initials", initial_id)["summary"]["seconds"]
    return cost


def _leave(context: Context, module: ClassifierModule, record: dict[str, Any], outcome: Outcome, work: Work) -> None:
    """The files of the artifact and the line of its manifest."""
    if outcome.test is not None:
        _write_predictions(context, outcome.test, work.folder / "predictions.csv")
        work.summary |= {"accuracy": record["metrics"]["accuracy"], "trained": record["trained"]}
    write_json(work.folder / "record.json", record)
    if context.settings["keep_weights"]:
        save_weights(module.network.state_dict(), work.folder / "weights.pt")
    work.scratch += [*SCRATCH, BEST]


def _write_predictions(context: Context, test: Answers, path: Path) -> None:
    images, scenes = context.images, context.table.scenes if context.table else None
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "label", "scene", "overlaps", *(f"logit_{name}" for name in images.classes)])
        for k, (i, row) in enumerate(zip(context.split.test, test.logits, strict=True)):
            shown = [images.names[i], images.classes[test.labels[k]], "" if scenes is None else int(scenes[i])]
            shown.append("" if context.overlapping is None else int(context.overlapping[k]))
            writer.writerow([*shown, *(f"{x:.5g}" for x in row)])


def _log_results(logger: WandbLogger, record: dict[str, Any]) -> None:
    names = record["classes"]
    logger.experiment.summary.update({f"test/{name}": value for name, value in record["metrics"].items()})
    logger.experiment.summary["trained"] = record["trained"]
    rows = [[c, *(record["per_class"][m][i] for m in record["per_class"])] for i, c in enumerate(names)]
    logger.log_table("test/per_class", columns=["class", *record["per_class"]], data=rows)
    counts = [
        [true, predicted, record["confusion"][i][j]]
        for i, true in enumerate(names)
        for j, predicted in enumerate(names)
    ]
    logger.log_table("test/confusion", columns=["true", "predicted", "images"], data=counts)
