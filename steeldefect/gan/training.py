"""Train one generator and leave it as an artifact."""

import csv
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

from steeldefect.data.datamodule import MixDataModule
from steeldefect.data.generated import refuse_known
from steeldefect.data.pictures import sheet
from steeldefect.data.sources import ImageSet
from steeldefect.gan.module import AdversarialModule
from steeldefect.gan.networks import latent_size
from steeldefect.gan.probe import LAST_GOOD, LastGood, QualityProbe
from steeldefect.gan.quality import FEWEST, real_pool
from steeldefect.gan.sampling import latents, sample
from steeldefect.runs.context import Context
from steeldefect.runs.device import torch_device
from steeldefect.runs.errors import require
from steeldefect.runs.identities import average_decay, seen_through
from steeldefect.runs.identity import derived_seed
from steeldefect.runs.loggers import wandb_run
from steeldefect.runs.store import Work
from steeldefect.runs.training import SCRATCH, fit, save_weights, seed_everything

log = logging.getLogger(__name__)
SHEET_COLUMNS = 10


class SampleSheet(Callback):
    """A picture of every class every n epochs, always from the same latents, drawn by the averaged generator."""

    def __init__(self, folder: Path, classes: tuple[str, ...], every: int) -> None:
        self.folder, self.classes, self.every = folder, classes, every

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, AdversarialModule)
        epoch = trainer.current_epoch + 1
        if epoch % self.every:
            return
        n = len(self.classes) * SHEET_COLUMNS
        labels = torch.arange(len(self.classes)).repeat_interleave(SHEET_COLUMNS)
        images = sample(pl_module.settled(), latents(0, range(n), latent_size(pl_module.gan)), labels).numpy()
        rows = images.reshape(len(self.classes), SHEET_COLUMNS, *images.shape[1:])
        path = self.folder / f"sheet_{epoch:05d}.png"
        sheet(rows, self.classes).save(path)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("gan/samples", [str(path)], caption=[f"epoch {epoch}"])


def train_gan(context: Context) -> str:
    """The id of the generator, trained if it is not there yet; of one of gan=folder the images are counted."""
    settings, store, identifier = context.settings, context.store, context.gan_id
    gan = settings["gan"]
    if context.generated is not None:
        return _counted(context, context.generated)
    _require_possible(settings)
    with store.write("gans", context.gan_identity) as work:
        if work is None:
            log.info("gan %s is finished: %s", identifier, store.folder("gans", identifier))
            return identifier
        _tell_budget(context)
        name = f"{gan['name']}-{settings['dataset']['name']}-{settings['scale']['name']}-r{settings['replicate']}"
        probe = _probe(context, work)
        with wandb_run(settings, "gan", identifier, name, [gan["name"], settings["split"]["name"]]) as loggers:
            images, labels = context.images.images[context.real], context.images.labels[context.real]
            seed_everything(derived_seed("gan", "init", settings["gan_seed"]))
            averaged = {**gan, "ema_decay": average_decay(gan["ema_decay"], context.gan_updates)}
            module = AdversarialModule(averaged, len(context.images.classes), context.real_counts)
            per_class = gan["conditioning"] == "per_class"
            data = MixDataModule(
                (images, labels),
                None,
                gan["image_size"],
                gan["batch_size"],
                derived_seed("gan", "order", settings["gan_seed"]),
                one_class_batches=per_class,
            )
            work.seconds_before = fit(
                module,
                data,
                settings,
                work.folder,
                context.precision("gan"),
                derived_seed("gan", "train", settings["gan_seed"]),
                f"gan {name}",
                loggers,
                # manual optimization: every step of either optimizer counts as one
                {"max_steps": 2 * gan["updates"], "max_epochs": -1}
                if gan["updates"]
                else {"max_epochs": gan["epochs"]},
                [
                    SampleSheet(work.folder, context.images.classes, gan["sheet_every"]),
                    LastGood(work.folder),
                    *([probe] if probe else []),
                ],
            )
        _save(module, work, context.real_counts, probe)
    log.info("gan %s: %s", identifier, store.folder("gans", identifier))
    return identifier


def _require_possible(settings: Mapping[str, Any]) -> None:
    """`UserError` for what torch does not do with a step of a GAN."""
    gan, trainer = settings["gan"], settings["trainer"]
    require(
        trainer["compile"] is None or not gan["discriminator"]["r1_gamma"],
        "trainer.compile: torch cannot differentiate compiled networks twice, as gan.discriminator.r1_gamma asks; set "
        "one of them to null or 0",
    )
    require(
        trainer["compile"] in (None, "default"),
        f"trainer.compile={trainer['compile']}: its CUDA graphs take one backward pass at a time, and a GAN's "
        "step has two that overlap; use default for a generator",
    )
    require(
        not trainer["sync_batchnorm"] or gan["discriminator"]["kind"] != "projected",
        "trainer.sync_batchnorm=true: cannot be had with gan=projected, whose frozen network has batch norms of its own",
    )


def _tell_budget(context: Context) -> None:
    """Epochs give a small set few updates and a large one many: a GAN that does not help may only be one of too few."""
    gan, scale = context.settings["gan"], context.settings["scale"]
    updates = context.gan_updates
    usual = scale["gan"]["low_data_updates"]
    if not usual / 2 <= updates <= 2 * usual:
        log.warning(
            "gan=%s: %d images give %d updates in %d epochs; scale=%s was made for about %d: gan.updates=%d",
            *(gan["name"], sum(context.real_counts), updates, gan["epochs"], scale["name"], usual, usual),
        )


def _counted(context: Context, generated: ImageSet) -> str:
    counts = np.bincount(generated.labels, minlength=len(generated.classes)).tolist()
    held = dict(zip(generated.classes, counts, strict=True))
    with context.store.write("gans", context.gan_identity) as work:
        if work is not None:
            settings = context.settings
            refuse_known(
                settings["gan"], settings["dataset"], context.images, context.real, context.store.root / "cache"
            )
            work.summary |= {"real": context.real_counts, "generated": held}
    listed = ", ".join(f"{name} {count}" for name, count in held.items())
    log.info("gan %s, made elsewhere: %s", context.gan_id, listed)
    return context.gan_id


def _probe(context: Context, work: Work) -> QualityProbe | None:
    """None under quality.every=0."""
    quality, split = context.settings["quality"], context.split
    if not quality["every"]:
        return None
    require(
        len(split.validation) > 0,
        f"quality.every={quality['every']}: is measured on validation images, and split.validation_fraction="
        f"{context.settings['split']['validation_fraction']} leaves none; raise it, or set quality.every=0",
    )
    device = torch_device(context.settings["trainer"]["accelerator"])
    reference, real = (real_pool(context, part, device, thin=True) for part in (split.validation, context.real))
    measured = [
        c for c in range(len(context.images.classes)) if min(reference.largest_set(c), real.largest_set(c)) >= FEWEST
    ]
    require(
        bool(measured),
        f"quality.every={quality['every']}: no class has {FEWEST} scenes in both train and validation to measure on",
    )
    return QualityProbe(work.folder, context.images.classes, quality, reference, real, seen_through(context.settings))


def _save(module: AdversarialModule, work: Work, real_counts: list[int], probe: QualityProbe | None) -> None:
    generator, discriminator = module.settled().state_dict(), module.discriminator.state_dict()
    if probe is not None:
        work.summary["quality"] = probe.rows[-1 - len(real_counts)] if probe.rows else None
        if probe.best is not None and probe.best_discriminator is not None:
            discriminator = probe.best_discriminator
            generator, work.summary["snapshot"] = probe.best, probe.best_row
    save_weights(generator, work.folder / "generator.pt")
    save_weights(discriminator, work.folder / "discriminator.pt")
    if module.history:
        with (work.folder / "history.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(module.history[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(module.history)
        work.summary |= {"final": module.history[-1]}
    work.summary |= {"updates": int(module.step), "real": real_counts}
    work.scratch += [*SCRATCH, LAST_GOOD]
