"""What speed costs: the same images, the same number of updates, and the accuracy that each way of training ends with."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from steeldefect.bench.classifier import plain_training, write_files
from steeldefect.bench.timing import Row
from steeldefect.classify.module import ClassifierModule, logits_of
from steeldefect.data.datamodule import MixDataModule
from steeldefect.data.resize import resize
from steeldefect.runs.context import Context
from steeldefect.runs.training import fit, seed_everything


def accuracy_rows(
    settings: Mapping[str, Any],
    context: Callable[[int], Context],
    precision: str,
    options: Mapping[str, Any],
    work: Path,
) -> list[Row]:
    """Of one backbone, on the test part of each replicate: ours beside the plain loop, and where ours runs in another
    format, beside ours in float32."""
    name, updates, rows = settings["classifier"]["name"], options["updates"], []
    for replicate in options["replicates"]:
        of = context(replicate)
        ours = {
            kind: _ours(settings, of, kind, updates, work / "fit") for kind in dict.fromkeys((precision, "32-true"))
        }
        plain = _plain(settings, of, updates, work / "files")
        rows.append(Row(f"accuracy_{name}_r{replicate}", ours[precision], plain, "%", None))
        if precision != "32-true":
            rows.append(Row(f"accuracy_{name}_r{replicate}_float32", ours[precision], ours["32-true"], "%", None))
    return rows


def _ours(settings: Mapping[str, Any], of: Context, precision: str, updates: int, work: Path) -> float:
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    images, labels, test = of.images.images, of.images.labels, of.split.test
    size, batch = settings["classifier"]["image_size"], settings["optimizer"]["batch_size"]
    seed = of.settings["train_seed"]
    seed_everything(seed)
    module = ClassifierModule(settings["classifier"], settings["optimizer"], len(of.images.classes))
    data = MixDataModule((images[of.real], labels[of.real]), None, size, batch, seed, settings["augment"])
    limits = {"max_steps": updates, "max_epochs": -1}
    fit(module, data, settings, work, precision, seed, f"{precision} r{seed}", [], limits)
    predicted = logits_of(module, resize(images[test], size), precision).argmax(1).numpy()
    return 100 * float((predicted == labels[test]).mean())


def _plain(settings: Mapping[str, Any], of: Context, updates: int, files: Path) -> float:
    shutil.rmtree(files, ignore_errors=True)
    for part, rows in {"train": of.real, "test": of.split.test}.items():
        write_files(of.images.images[rows], of.images.labels[rows], of.images.classes, files / part)
    seed_everything(of.settings["train_seed"])
    module, data = plain_training(settings, files / "train", updates)
    module.eval()
    right: list[np.ndarray] = []
    with torch.inference_mode():
        images: Tensor
        for images, labels in DataLoader(ImageFolder(str(files / "test"), data.transform), 256):
            right.append((module.network(images).argmax(1) == labels).numpy())
    return 100 * float(np.concatenate(right).mean())
