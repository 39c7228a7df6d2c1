"""`select=validation`: the weights after the epoch with the best accuracy on the validation part."""

from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from steeldefect.classify.module import ClassifierModule, logits_of
from steeldefect.runs import ranks
from steeldefect.runs.training import save_weights

BEST = "best.pt"


class BestEpoch(Callback):
    """Looks at the validation part after each epoch, the last and perhaps shorter one too; of equals, the first.

    `images` are uint8 `(n, S, S)` at the classifier's size, `labels` int64 `(n,)`; the best weights lie in
    `folder/best.pt`, so that an interrupted run goes on with them.
    """

    def __init__(self, images: Tensor, labels: Tensor, precision: str, folder: Path) -> None:
        self.images, self.labels, self.precision = images, labels, precision
        self.path = folder / BEST
        self.best: dict[str, float] = {"accuracy": -1.0}
        self.looks = 0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, ClassifierModule)
        predicted = logits_of(pl_module, self.images, self.precision).argmax(1)
        pl_module.train()
        accuracy = float((predicted == self.labels).float().mean())
        self.looks += 1
        if accuracy > self.best["accuracy"]:
            self.best = {"accuracy": accuracy, "epoch": trainer.current_epoch + 1, "updates": trainer.global_step}
            temporary = self.path.with_suffix(".tmp")
            save_weights(pl_module.network.state_dict(), temporary)
            temporary.replace(self.path)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "looks": self.looks}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.looks = state_dict["best"], state_dict["looks"]

    def restore(self, module: ClassifierModule) -> dict[str, float]:
        """Put the best weights into the module; what they reached, and of how many epochs.

        Under trainer=ddp in process 0 alone: a folder of another is gone after a stop, and so is what it finds.
        """
        if not ranks.here().rank:
            module.network.load_state_dict(torch.load(self.path, weights_only=True))
        return {**self.best, "of": self.looks}
