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
from steeldefect.classify.module import ClassifierModule, logits_of
from steeldefect.classify.record import cell_record
from steeldefect.data.bank import pick, read_bank
from steeldefect.data.datamodule import MixDataModule, resize
from steeldefect.runs.context import Context
from steeldefect.runs.identity import derived_seed, digest
from steeldefect.runs.loggers import wandb_run
from steeldefect.runs.settings import mix_counts
from steeldefect.runs.store import Work, write_json
from steeldefect.runs.training import SCRATCH, fit, seed_everything

log = logging.getLogger(__name__)
TRAIN_SAMPLE = 1000  # images of the mix on which the final training accuracy is read
Part = tuple[np.ndarray, np.ndarray]


def train_cell(context: Context) -> str:
    """The id of the cell, trained if it is not there yet."""
    store, identity = context.store, context.cell_identity
    identifier = digest(identity)
    weights = store.folder("cells", identifier) / "weights.pt"
    # a finished cell that kept no weights is trained again for them; the old folder stays until the new one is whole
    again = context.settings["keep_weights"] and not weights.is_file()
    with store.write("cells", identity, again=again) as work:
        if work is None:
            log.info("cell %s is finished: %s", identifier, store.folder("cells", identifier))
            return identifier
        synthetic = _synthetic(context)
        initial_id = _initial(context, synthetic)
        settings = context.settings
        tags = [context.mix, settings["classifier"]["name"]]
        with wandb_run(settings, "cell", identifier, title(context), tags) as loggers:
            module = _new_module(context)
            if initial_id is not None:
                folder = store.need("initials", initial_id, context.command("train_classifier"))
                module.network.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
            data = _data(
                context, None if settings["mix"]["synthetic_share"] == 1 else _real(context), synthetic, "retrain"
            )
            seconds = _fit(context, module, data, work.folder, "retrain", loggers)
            record = _evaluate(context, identifier, initial_id, module, data, seconds, work)
            for logger in loggers:
                if isinstance(logger, WandbLogger):
                    _log_results(logger, record)
        if settings["keep_weights"]:
            torch.save(module.network.state_dict(), work.folder / "weights.pt")
        work.scratch += SCRATCH
    log.info("cell %s %s: AP (paper) %.4f", identifier, title(context), record["metrics"]["mean_pr"])
    return identifier


def title(context: Context) -> str:
    settings = context.settings
    return f"{settings['classifier']['name']}-{context.mix}-r{settings['replicate']}"


def _real(context: Context) -> Part:
    return context.images.images[context.real], context.images.labels[context.real]


def _synthetic(context: Context) -> Part | None:
    """The bank's images of this mix; None where it has none."""
    if context.bank_id is None:
        return None
    folder = context.store.need("banks", context.bank_id, context.command("synthesize"))
    images, labels = read_bank(folder, context.split_id)
    mix = context.settings["mix"]
    counts = mix_counts(context.real_counts, mix["synthetic_share"], mix["balance"])
    chosen = pick(labels, counts, context.images.classes)
    return images[chosen], labels[chosen]


def _initial(context: Context, synthetic: Part | None) -> str | None:
    """Phase `initial`: the originals of the mix, or for org0 its synthetic images; made once for all mixes."""
    identity = context.initial_identity
    if identity is None:
        return None
    with context.store.write("initials", identity, wait=True) as work:
        if work is not None:
            module = _new_module(context)
            only_synthetic = context.settings["mix"]["synthetic_share"] == 1
            data = _data(
                context,
                None if only_synthetic else _real(context),
                synthetic if only_synthetic else None,
                "initial",
            )
            seconds = _fit(context, module, data, work.folder, "initial", [])
            torch.save(module.network.state_dict(), work.folder / "weights.pt")
            work.summary |= {"seconds": seconds, "updates": context.updates("initial")}
            work.scratch += SCRATCH
    return digest(identity)


def _new_module(context: Context) -> ClassifierModule:
    settings = context.settings
    seed_everything(derived_seed("classifier", "init", settings["train_seed"]))
    return ClassifierModule(settings["classifier"], settings["optimizer"], len(context.images.classes))


def _data(context: Context, real: Part | None, synthetic: Part | None, phase: str) -> MixDataModule:
    settings = context.settings
    empty = (context.images.images[:0], context.images.labels[:0])
    return MixDataModule(
        real or empty,
        synthetic,
        settings["classifier"]["image_size"],
        settings["optimizer"]["batch_size"],
        derived_seed(settings["train_seed"], phase),
        settings["augment"],
    )


def _fit(
    context: Context, module: ClassifierModule, data: MixDataModule, folder: Path, phase: str, loggers: list[Any]
) -> float:
    settings, started = context.settings, time.monotonic()
    fit(
        module,
        data,
        settings,
        folder,
        context.precision("classifier"),
        derived_seed("classifier", phase, settings["train_seed"]),
        f"{title(context)} {phase}",
        loggers,
        {"max_steps": context.updates(phase), "max_epochs": -1},
    )
    return time.monotonic() - started


def _evaluate(
    context: Context,
    identifier: str,
    initial_id: str | None,
    module: ClassifierModule,
    data: MixDataModule,
    seconds: float,
    work: Work,
) -> dict[str, Any]:
    """The only place where labels of the test part are asked for."""
    images, split, classes = context.images, context.split, len(context.images.classes)
    precision, size = context.precision("classifier"), context.settings["classifier"]["image_size"]

    def results(part: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        logits = logits_of(module, resize(images.images[part], size), precision).numpy()
        return logits, evaluate(logits, images.labels[part], classes)

    logits, test = results(split.test)
    if context.overlapping is not None:
        test["metrics"] |= by_overlap(logits, images.labels[split.test], context.overlapping)
    validation = results(split.validation)[1]["metrics"] if len(split.validation) else None
    sample = torch.linspace(0, len(data.labels) - 1, min(TRAIN_SAMPLE, len(data.labels))).round().long()
    predicted = logits_of(module, data.images.cpu()[sample], precision).argmax(1)
    train_accuracy = float((predicted == data.labels.cpu()[sample]).float().mean())
    record = cell_record(context, identifier, initial_id, test, validation, train_accuracy)
    record["cost"] = {
        "seconds": round(seconds, 3),
        "images_per_second": round(context.updates("retrain") * data.batch_size / seconds, 1),
        "parameters": sum(p.numel() for p in module.network.parameters()),
    }
    if initial_id is not None:
        record["cost"]["seconds_initial"] = context.store.manifest("initials", initial_id)["summary"]["seconds"]
    _write_predictions(context, logits, work.folder / "predictions.csv")
    write_json(work.folder / "record.json", record)
    work.summary |= {"accuracy": record["metrics"]["accuracy"], "trained": record["trained"]}
    return record


def _write_predictions(context: Context, logits: np.ndarray, path: Path) -> None:
    images, scenes = context.images, context.table.scenes if context.table else None
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "label", "scene", "overlaps", *(f"logit_{name}" for name in images.classes)])
        for k, (i, row) in enumerate(zip(context.split.test, logits, strict=True)):
            shown = [images.names[i], images.classes[images.labels[i]], "" if scenes is None else int(scenes[i])]
            shown.append("" if context.overlapping is None else int(context.overlapping[k]))
            writer.writerow([*shown, *(f"{x:.5g}" for x in row)])


def _log_results(logger: WandbLogger, record: dict[str, Any]) -> None:
    names = record["classes"]
    logger.experiment.summary.update({f"test/{name}": value for name, value in record["metrics"].items()})
    rows = [[c, *(record["per_class"][m][i] for m in record["per_class"])] for i, c in enumerate(names)]
    logger.log_table("test/per_class", columns=["class", *record["per_class"]], data=rows)
    counts = [
        [true, predicted, record["confusion"][i][j]]
        for i, true in enumerate(names)
        for j, predicted in enumerate(names)
    ]
    logger.log_table("test/confusion", columns=["true", "predicted", "images"], data=counts)
