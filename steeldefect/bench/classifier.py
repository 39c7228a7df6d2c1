"""The classifier step: ours without a Trainer, and, from image files, what one would write instead."""

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from steeldefect.bench.counting import counted
from steeldefect.bench.roof import Roof, at_the_roof
from steeldefect.bench.steps import autocast, random_images
from steeldefect.bench.timing import Row, Side, alternating, apart
from steeldefect.classify.backbones import GrayAsRgb, build_classifier
from steeldefect.classify.module import ClassifierModule
from steeldefect.data.datamodule import MixDataModule
from steeldefect.data.sources import load_dataset
from steeldefect.runs.device import accelerator_kind
from steeldefect.runs.training import fit, quiet

WORKERS = 2


class PlainClassifier(LightningModule):
    """The usual few lines: logits, cross-entropy, SGD, the loss logged at every step."""

    def __init__(self, network: nn.Module, optimizer: Mapping[str, Any]) -> None:
        super().__init__()
        self.network, self.options = network, optimizer

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        loss = F.cross_entropy(self.network(images), labels)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            self.parameters(), lr=float(self.options["lr"]), momentum=float(self.options["momentum"])
        )


def bare_step(settings: Mapping[str, Any], classes: int, precision: str, device: torch.device) -> Callable[[], None]:
    """Our training step and update with nothing of Lightning around them, on images that lie on the device."""
    size, batch = settings["classifier"]["image_size"], settings["optimizer"]["batch_size"]
    module = ClassifierModule(settings["classifier"], settings["optimizer"], classes).to(device)
    optimizer = module.configure_optimizers()
    data = MixDataModule(random_images(4 * batch, size, classes), None, size, batch, 0, settings["augment"])
    data.images, data.labels = data.images.to(device), data.labels.to(device)
    order = torch.arange(len(data.labels), device=device).split(batch)

    def step() -> None:
        module.updates += 1
        batch_of_images = data.on_after_batch_transfer(order[module.updates % len(order)], 0)
        with autocast(precision, device):
            loss = module.training_step(batch_of_images, module.updates)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def write_files(images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], root: Path) -> None:
    """A folder a class of BMP files, the format of NEU-CLS."""
    for k, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = root / classes[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{k:05d}.bmp")


def ours_from_files(
    settings: Mapping[str, Any], files: Path, size: int, precision: str, steps: int, work: Path
) -> Side:
    """Decode once (no cache stands), then train: seconds of everything, shared out over the steps."""

    def side() -> float:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        started = time.perf_counter()
        given = {
            "name": "image_folder",
            "root": str(files),
            "image_size": size,
            "scenes": None,
            "max_pixels": 50_000_000,
        }
        images = load_dataset(given, work / "cache")
        module = ClassifierModule(settings["classifier"], settings["optimizer"], len(images.classes))
        pixels, batch = settings["classifier"]["image_size"], settings["optimizer"]["batch_size"]
        # a copy, as the training part of a split is: what the cache maps cannot be written
        part = (np.array(images.images), images.labels)
        data = MixDataModule(part, None, pixels, batch, 0, settings["augment"])
        fit(module, data, settings, work, precision, 0, "bench", [], {"max_steps": steps, "max_epochs": -1})
        return (time.perf_counter() - started) / steps

    return side


def plain_training(settings: Mapping[str, Any], files: Path, steps: int) -> tuple[PlainClassifier, ImageFolder]:
    """ImageFolder, a DataLoader of two workers, a plain module, float32: trained, with the images as it read them."""
    quiet()
    size, batch = settings["classifier"]["image_size"], settings["optimizer"]["batch_size"]
    data = ImageFolder(str(files))
    network = build_classifier(settings["classifier"], len(data.classes)).to(memory_format=torch.contiguous_format)
    channels = 3 if isinstance(network, GrayAsRgb) else 1
    data.transform = transforms.Compose(
        [
            transforms.Grayscale(channels),
            transforms.Resize((size, size)),
            transforms.ToTensor(),
            transforms.Normalize([0.5] * channels, [0.5] * channels),
        ]
    )
    module = PlainClassifier(network.network if isinstance(network, GrayAsRgb) else network, settings["optimizer"])
    trainer = Trainer(
        accelerator=accelerator_kind(settings["trainer"]["accelerator"]),
        devices=1,
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(data, batch, shuffle=True, num_workers=WORKERS), weights_only=True)
    return module, data


def plain_from_files(settings: Mapping[str, Any], files: Path, steps: int) -> Side:
    """Seconds of a step of `plain_training`, everything shared out."""

    def side() -> float:
        started = time.perf_counter()
        plain_training(settings, files, steps)
        return (time.perf_counter() - started) / steps

    return side


def classifier_rows(
    settings: Mapping[str, Any],
    given: tuple[Path, int, int],
    precision: str,
    roof: Roof | None,
    options: Mapping[str, Any],
    device: torch.device,
    work: Path,
) -> list[Row]:
    """Ours against theirs for one backbone, and against the roof. given: folder of files, their size, classes."""
    files, size, classes = given
    name, steps = f"classifier_step_{settings['classifier']['name']}", options["classifier_steps"]
    ours = ours_from_files(settings, files, size, precision, steps, work)
    with apart(plain_from_files, settings, files, steps) as other:
        row = alternating(name, ours, other, options["pairs"])
    if roof is None:
        return [row]
    least = at_the_roof(counted(bare_step(settings, classes, precision, device)).flops_by_kind(), roof, precision)
    return [row, Row(f"{name}_roof", row.ours, least, "s", least / row.ours)]
