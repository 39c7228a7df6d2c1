"""What Trainer and callbacks cost: a step inside `fit`, as a run has it, against the bare loop of the same step."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule, LightningModule

from steeldefect.bench.adversarial import our_step
from steeldefect.bench.classifier import bare_step
from steeldefect.bench.steps import StepClock, random_images
from steeldefect.bench.timing import Row, Side, alternating, timed
from steeldefect.classify.module import ClassifierModule
from steeldefect.data.datamodule import MixDataModule
from steeldefect.gan.module import AdversarialModule
from steeldefect.runs.training import fit

WARM = 3  # first steps of a training that are not counted
EPOCH = 20  # batches an epoch, about what NEU-CLS has at scale=cpu


def overhead_rows(
    settings: Mapping[str, Any],
    classes: int,
    precisions: tuple[str, str],
    options: Mapping[str, Any],
    device: torch.device,
    work: Path,
) -> list[Row]:
    """precisions: of GAN and classifier. ratio: bare / inside, so 1 / (1 + overhead)."""
    gan, steps = dict(settings["gan"]), options["steps"]

    def adversarial() -> tuple[LightningModule, LightningDataModule]:
        images = random_images(EPOCH * gan["batch_size"], gan["image_size"], classes)
        data = MixDataModule(images, None, gan["image_size"], gan["batch_size"], 0)
        return AdversarialModule(gan, classes), data

    def classifier() -> tuple[LightningModule, LightningDataModule]:
        size, batch = settings["classifier"]["image_size"], settings["optimizer"]["batch_size"]
        data = MixDataModule(random_images(EPOCH * batch, size, classes), None, size, batch, 0, settings["augment"])
        return ClassifierModule(settings["classifier"], settings["optimizer"], classes), data

    def inside(make: Any, precision: str, counts: int) -> Side:
        def side() -> float:
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            clock, limits = StepClock(WARM), {"max_steps": counts * (steps + WARM), "max_epochs": -1}
            module, data = make()
            fit(module, data, settings, work, precision, 0, "bench", [], limits, [clock])
            return clock.seconds

        return side

    bare_gan = timed(our_step(gan, classes, precisions[0], device), steps, device)
    bare_classifier = timed(bare_step(settings, classes, precisions[1], device), steps, device)
    # manual optimization: every step of either optimizer counts as one
    return [
        alternating("overhead_adversarial", inside(adversarial, precisions[0], 2), bare_gan, options["pairs"]),
        alternating("overhead_classifier", inside(classifier, precisions[1], 1), bare_classifier, options["pairs"]),
    ]
