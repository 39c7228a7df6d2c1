"""Classifier training as a LightningModule: cross-entropy, SGD (paper: section 4.1)."""

from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F

from steeldefect.classify.backbones import build_classifier
from steeldefect.data.datamodule import MixDataModule, to_float
from steeldefect.runs import ranks
from steeldefect.runs.errors import UserError

LOG_EVERY = 50  # updates between two readings of the sums kept on the device
TRAIN_SAMPLE = 1000  # images of the mix on which the final training accuracy is read


class ClassifierModule(LightningModule):
    """Batches are (images `(N, 1, S, S)` in [-1, 1], labels `(N,)`); `forward` gives logits `(N, classes)`."""

    sums: Tensor

    def __init__(self, classifier: dict[str, Any], optimizer: dict[str, Any], classes: int) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.network = build_classifier(classifier, classes)
        self.optimizer_options = optimizer
        self.register_buffer("sums", torch.zeros(2), persistent=False)
        self.updates = 0

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)

    def trained_networks(self) -> list[nn.Module]:
        return [self.network]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        options = self.optimizer_options
        return torch.optim.SGD(
            self.parameters(), lr=float(options["lr"]), momentum=float(options["momentum"]), fused=True
        )

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        with ranks.own_noise(images.device, "classifier", self.updates):
            logits = self(images).float()
        weight = ranks.weight(ranks.total_of(self, len(images)))
        loss = weight * F.cross_entropy(logits, labels)
        with torch.no_grad():
            self.sums += torch.stack([loss.detach(), weight * (logits.argmax(1) == labels).float().mean()])
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.updates += 1
        if self.updates % LOG_EVERY == 0 or self.trainer.global_step == self.trainer.max_steps:
            self._read_sums()

    def _read_sums(self) -> None:
        n = (self.updates - 1) % LOG_EVERY + 1
        loss, accuracy = (ranks.averaged(self.sums) / n).tolist()
        self.sums.zero_()
        if loss != loss or loss in (float("inf"), float("-inf")):
            raise UserError(
                f"classifier={self.hparams['classifier']['name']}: the loss was not finite within updates "
                f"{self.updates - n + 1}-{self.updates}; lower optimizer.lr={self.optimizer_options['lr']} "
                "or use precision=32-true"
            )
        # self.log would have Lightning write these values again at every update until the epoch ends
        for logger in self.trainer.loggers:
            logger.log_metrics({"train/loss": loss, "train/accuracy": accuracy}, step=self.updates)
            logger.save()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # a checkpoint in mid-epoch is written before this module has counted the batch; the trainer has
        checkpoint["sums"], checkpoint["updates"] = self.sums, self.trainer.global_step

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.updates = checkpoint["updates"]
        if self.updates % LOG_EVERY:
            self.sums.copy_(checkpoint["sums"])


@torch.inference_mode()
def logits_of(module: ClassifierModule, images: Tensor, precision: str, chunk: int = 256) -> Tensor:
    """Float32 logits `(N, classes)` on the CPU for uint8 images `(N, S, S)`, in eval mode, at the given precision."""
    device = next(module.parameters()).device
    module.eval()
    dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)
    with torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None):
        parts = [module(to_float(part.to(device))).float().cpu() for part in images.split(chunk)]
    return torch.cat(parts)


def train_accuracy(module: ClassifierModule, data: MixDataModule, precision: str) -> float:
    """Share of the training images, or of `TRAIN_SAMPLE` spread over them, that the trained module gets right."""
    sample = torch.linspace(0, len(data.labels) - 1, min(TRAIN_SAMPLE, len(data.labels))).round().long()
    predicted = logits_of(module, data.images.cpu()[sample], precision).argmax(1)
    return float((predicted == data.labels.cpu()[sample]).float().mean())
