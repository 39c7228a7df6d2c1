"""Train one generator and leave it as an artifact."""

import csv
import logging
from pathlib import Path

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

from steeldefect.data.datamodule import MixDataModule
from steeldefect.data.pictures import sheet
from steeldefect.gan.module import AdversarialModule
from steeldefect.gan.sampling import latents, sample
from steeldefect.runs.context import Context
from steeldefect.runs.identity import derived_seed
from steeldefect.runs.loggers import wandb_run
from steeldefect.runs.store import Work
from steeldefect.runs.training import SCRATCH, fit, seed_everything

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
        images = sample(pl_module.average, latents(0, range(n), pl_module.gan["latent_dim"]), labels).numpy()
        rows = images.reshape(len(self.classes), SHEET_COLUMNS, *images.shape[1:])
        path = self.folder / f"sheet_{epoch:05d}.png"
        sheet(rows, self.classes).save(path)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("gan/samples", [str(path)], caption=[f"epoch {epoch}"])


def train_gan(context: Context) -> str:
    """The id of the generator, trained if it is not there yet."""
    settings, store, identifier = context.settings, context.store, context.gan_id
    gan = settings["gan"]
    with store.write("gans", context.gan_identity) as work:
        if work is None:
            log.info("gan %s is finished: %s", identifier, store.folder("gans", identifier))
            return identifier
        name = f"{gan['name']}-{settings['dataset']['name']}-{settings['scale']['name']}-r{settings['replicate']}"
        with wandb_run(settings, "gan", identifier, name, [gan["name"], settings["split"]["name"]]) as loggers:
            images, labels = context.images.images[context.real], context.images.labels[context.real]
            seed_everything(derived_seed("gan", "init", settings["gan_seed"]))
            module = AdversarialModule(gan, len(context.images.classes))
            per_class = gan["conditioning"] == "per_class"
            data = MixDataModule(
                (images, labels),
                None,
                gan["image_size"],
                gan["batch_size"],
                derived_seed("gan", "order", settings["gan_seed"]),
                one_class_batches=per_class,
            )
            fit(
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
                [SampleSheet(work.folder, context.images.classes, gan["sheet_every"])],
            )
        _save(module, work, np.bincount(labels, minlength=len(context.images.classes)).tolist())
    log.info("gan %s: %s", identifier, store.folder("gans", identifier))
    return identifier


def _save(module: AdversarialModule, work: Work, real_counts: list[int]) -> None:
    torch.save(module.average.state_dict(), work.folder / "generator.pt")
    torch.save(module.discriminator.state_dict(), work.folder / "discriminator.pt")
    if module.history:
        with (work.folder / "history.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(module.history[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(module.history)
        work.summary |= {"final": module.history[-1]}
    work.summary |= {"updates": int(module.step), "real": real_counts}
    work.scratch += SCRATCH
