"""What both kinds of step share: images to work on, the number format, the clock inside a Trainer."""

import contextlib
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer

from steeldefect.bench.timing import now

HALF = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """What a Trainer of this precision puts around a step."""
    half = HALF.get(precision, torch.bfloat16)
    return torch.autocast(device.type, half, enabled=precision in HALF, cache_enabled=False)


def random_images(count: int, size: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 `(count, size, size)` and int64 labels `(count,)`: a step takes as long whatever its images show."""
    images = np.random.default_rng(0).integers(0, 256, (count, size, size), dtype=np.uint8)
    return images, np.arange(count) % classes


class StepClock(Callback):
    """Seconds of a step in a Trainer, from the start of step `after` to the end of the training, epoch ends included."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.steps = 0
        self.started = self.seconds = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self.steps == self.after:
            self.started = now(pl_module.device)
        self.steps += 1

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds = (now(pl_module.device) - self.started) / (self.steps - self.after)
