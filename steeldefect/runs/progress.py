"""What is running and how long it still takes: a bar on a terminal, a line now and then elsewhere."""

import logging
import time
from typing import Any

from lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from steeldefect.runs.sweep import position

log = logging.getLogger(__name__)
SECONDS_BETWEEN_LINES = 30.0


def bar(console: Console | None = None) -> RichProgress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return RichProgress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=True)


class Progress(Callback):
    """Counts batches over the whole fit; never asks the device for anything."""

    def __init__(self, title: str) -> None:
        self.title = f"{position()}{title}"
        self.bar: RichProgress | None = None
        self.done = self.total = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        batches = int(trainer.num_training_batches)
        # max_steps counts each optimizer's
        updates = trainer.max_steps // len(trainer.optimizers)
        self.total = updates if updates > 0 else (trainer.max_epochs or 1) * batches
        self.done = self.resumed_at = trainer.fit_loop.epoch_loop.total_batch_idx + 1
        self.started = self.said = time.monotonic()
        console = Console(stderr=True)
        if console.is_terminal and trainer.is_global_zero:
            self.bar = bar(console)
            self.bar.start()
            self.task = self.bar.add_task(self.title, total=self.total, completed=self.done)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.done += 1
        if self.bar is not None:
            self.bar.update(self.task, completed=self.done)
            return
        now = time.monotonic()
        if now - self.said >= SECONDS_BETWEEN_LINES:
            self.said = now
            rate = (self.done - self.resumed_at) / (now - self.started)
            left = (self.total - self.done) / rate
            log.info(
                "%s: update %d of %d, %.1f a second, %s left", self.title, self.done, self.total, rate, _span(left)
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
