"""What a training is watched by: quality on validation every so many epochs, and the generator to go back to."""

import csv
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from steeldefect.gan.features import features_of
from steeldefect.gan.module import AdversarialModule
from steeldefect.gan.networks import latent_size
from steeldefect.gan.orbit import placed
from steeldefect.gan.quality import Figures, Pool, diversity_shares, figures, over_classes
from steeldefect.gan.sampling import latents, sample
from steeldefect.runs.identity import derived_seed
from steeldefect.runs.training import save_weights

log = logging.getLogger(__name__)
LAST_GOOD = "last_good.pt"
COLUMNS = ("epoch", "class", "kid", "kid_floor", "diversity", "diversity_drawn", "diversity_real")
KEPT = ("rows", "best", "best_discriminator", "best_row")  # in a checkpoint
CHUNK = 64

State = dict[str, Tensor]


def drawn_pool(
    generator: torch.nn.Module, gan: dict[str, Any], classes: int, a_class: int, size: int, through: Sequence[str] = ()
) -> Pool:
    """`a_class` images of each class from latents of their own, which no bank and no sheet uses.

    through: the flips and shifts that a bank is drawn through.
    """
    labels = torch.arange(classes).repeat(a_class)
    z = latents(derived_seed("gan", "probe"), range(len(labels)), latent_size(gan))
    parts = [sample(generator, *part).numpy() for part in zip(z.split(CHUNK), labels.split(CHUNK), strict=True)]
    drawn = np.concatenate(parts)
    images = placed(drawn, through, derived_seed("gan", "probe"), 0) if through else drawn
    features = features_of(images, size, next(generator.parameters()).device)
    return Pool(images, labels.numpy(), features, drawn=drawn)


class QualityProbe(Callback):
    """Validation KID and diversity of the averaged generator, into quality.csv and the loggers; keeps the best snapshot.

    Draws nothing from the global generators and puts all its state into the checkpoint, so that a training goes the
    same way with and without it, resumed or not. `quality` is the config node; reference and real as in `figures`.
    """

    def __init__(
        self,
        folder: Path,
        classes: Sequence[str],
        quality: dict[str, Any],
        reference: Pool,
        real: Pool,
        through: Sequence[str] = (),
    ) -> None:
        self.folder, self.classes, self.quality, self.through = folder, classes, quality, through
        self.reference, self.real = reference, real
        # enough for sets that differ, as many in each class as its reference has images at most
        most = int(np.bincount(reference.labels, minlength=len(classes)).max())
        self.a_class = most * quality["training_draws"]
        self.rows: list[dict[str, Any]] = []
        self.best: State | None = None
        self.best_discriminator: State | None = None
        self.best_row: dict[str, Any] | None = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, AdversarialModule)
        epoch = trainer.current_epoch + 1
        at_end = epoch == trainer.max_epochs or 0 < trainer.max_steps <= trainer.global_step
        # a diverged generator has no quality; the module stops the run right after
        if (epoch % self.quality["every"] and not at_end) or pl_module.failed_step() is not None:
            return
        generator = pl_module.settled()
        found = self._measure(generator, dict(pl_module.gan))
        shares = diversity_shares(found)
        means = {name: over_classes(values) for name, values in found.items()}
        overall: dict[str, Any] = {"epoch": epoch, "class": "all"} | means
        self.rows.append(overall)
        for c, name in enumerate(self.classes):
            self.rows.append({"epoch": epoch, "class": name} | {key: values[c] for key, values in found.items()})
        self._write()
        logged = {"kid": means["kid"], "kid_floor": means["kid_floor"], "diversity_share": over_classes(shares)}
        pl_module.log_dict({f"gan/{name}": value for name, value in logged.items() if value is not None})
        kid = means["kid"]
        if kid is not None and math.isfinite(kid) and (self.best_row is None or kid < self.best_row["kid"]):
            self.best_row = overall
            if self.quality["snapshot"] == "best_kid":
                self.best = copy_of(generator.state_dict())
                self.best_discriminator = copy_of(pl_module.discriminator.state_dict())

    def _measure(self, generator: torch.nn.Module, gan: dict[str, Any]) -> Figures:
        classes, quality = len(self.classes), self.quality
        synthetic = drawn_pool(generator, gan, classes, self.a_class, quality["feature_size"], self.through)
        draws, neighbours = quality["training_draws"], quality["neighbours"]
        return figures(self.reference, self.real, synthetic, classes, draws, neighbours, whole=False)

    def _write(self) -> None:
        with (self.folder / "quality.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)

    def state_dict(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in KEPT}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for key in KEPT:
            setattr(self, key, state_dict[key])
        self._write()


class LastGood(Callback):
    """Leaves the averaged generator of the last epoch whose losses were finite, where a later one's are not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.epoch = 0
        self.weights: State | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, AdversarialModule)
        if trainer.current_epoch:  # a checkpoint is only written after a good epoch
            self.epoch, self.weights = trainer.current_epoch, copy_of(pl_module.average.state_dict())

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, AdversarialModule)
        if pl_module.failed_step() is None:
            self.epoch, self.weights = trainer.current_epoch + 1, copy_of(pl_module.average.state_dict())
        elif self.weights is not None:
            pl_module.average.load_state_dict(self.weights)
            save_weights(pl_module.settled().state_dict(), self.folder / LAST_GOOD)
            log.error("the generator as it was after epoch %d is kept in %s", self.epoch, self.folder / LAST_GOOD)


def copy_of(state: State) -> State:
    return {name: value.detach().clone() for name, value in state.items()}
