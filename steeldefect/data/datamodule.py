"""Real and synthetic images, resident on the training device as uint8; a batch is an index into them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor

from steeldefect.data.augment import classical
from steeldefect.data.resize import resize
from steeldefect.runs import ranks
from steeldefect.runs.errors import UserError
from steeldefect.runs.identity import derived_seed
from steeldefect.runs.mixes import fills_up

AUGMENT = {"none": None, "classical": classical}


def to_float(images: Tensor) -> Tensor:
    """uint8 `(N, H, W)` to float `(N, 1, H, W)` in [-1, 1], channels last."""
    return images.unsqueeze(1).float().div_(127.5).sub_(1).contiguous(memory_format=torch.channels_last)


class IndexLoader:
    """Batches of indices; the order of an epoch is a pure function of (seed, epoch), so that a run can be resumed.

    `groups` (one array of indices a class) makes every batch of one class, for `conditioning=per_class`; otherwise
    the epoch is one permutation of all images. The last, smaller batch is kept, but one of a few images is filled up with
    the first of the epoch (`mixes.fills_up`).
    """

    def __init__(self, groups: list[np.ndarray], batch_size: int, seed: int, device: torch.device) -> None:
        self.groups = groups
        self.batch_size = batch_size
        self.seed = seed
        self.device = device
        self.epoch = 0
        self.taken = 0

    def __len__(self) -> int:
        return sum(-(-len(group) // self.batch_size) for group in self.groups)

    def batches(self, epoch: int) -> list[np.ndarray]:
        rng = np.random.default_rng(derived_seed("order", self.seed, epoch))
        found = []
        for group in self.groups:
            order = rng.permutation(group)
            if fills_up(len(order), self.batch_size):
                order = np.concatenate([order, order[: -len(order) % self.batch_size]])
            found += [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        if len(self.groups) > 1:
            found = [found[i] for i in rng.permutation(len(found))]
        return found

    def __iter__(self) -> Iterator[Tensor]:
        if self.taken >= len(self):
            self.epoch, self.taken = self.epoch + 1, 0
        batches = self.batches(self.epoch)
        # one copy to the device an epoch; a batch is then a view of it
        order = torch.from_numpy(np.concatenate(batches)).to(self.device)
        for batch in order.split([len(batch) for batch in batches])[self.taken :]:
            self.taken += 1
            yield batch


class MixDataModule(LightningDataModule):
    """The training images of one run: `real` (uint8, `(n, S, S)`), then `synthetic` (any size), resized alike.

    Labels are int64 `(n,)`. Batches reach the module as (float images `(B, 1, size, size)` in [-1, 1], labels). Under
    trainer=ddp every process goes through the same global batches and takes its share of each.
    """

    def __init__(
        self,
        real: tuple[np.ndarray, np.ndarray],
        synthetic: tuple[np.ndarray, np.ndarray] | None,
        image_size: int,
        batch_size: int,
        seed: int,
        augment: str = "none",
        one_class_batches: bool = False,
    ) -> None:
        super().__init__()
        parts = [real] if synthetic is None else [real, synthetic]
        parts = [part for part in parts if len(part[1])]
        if not parts:
            raise UserError("the mix holds no image: mix.synthetic_share=0 needs real training images")
        self.images = torch.cat([resize(images, image_size) for images, _ in parts])
        self.host_labels = np.concatenate([labels for _, labels in parts]).astype(np.int64)
        self.labels = torch.from_numpy(self.host_labels)
        self.batch_size = batch_size
        self.seed = seed
        self.augment = AUGMENT[augment]
        self.one_class_batches = one_class_batches
        self.loader: IndexLoader | None = None
        self.position = (0, 0)
        self.total = 0  # images of the batch in hand, of all processes

    def train_dataloader(self) -> IndexLoader:
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        self.images, self.labels = self.images.to(device), self.labels.to(device)
        labels = self.host_labels
        everything = np.arange(len(labels))
        groups = [everything[labels == c] for c in np.unique(labels)] if self.one_class_batches else [everything]
        self.loader = IndexLoader(groups, self.batch_size, self.seed, device)
        self.loader.epoch, self.loader.taken = self.position
        return self.loader

    def batch_classes(self, epoch: int) -> list[int]:
        """The class of every batch of an epoch with `one_class_batches`, known without a look at the device."""
        assert self.loader is not None
        return [int(self.host_labels[batch[0]]) for batch in self.loader.batches(epoch)]

    def state_dict(self) -> dict[str, Any]:
        """The sampler's position. (Lightning drops the state of a loader that is resumed at the end of an epoch.)"""
        assert self.loader is not None
        return {"epoch": self.loader.epoch, "taken": self.loader.taken}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.position = (state_dict["epoch"], state_dict["taken"])

    def on_after_batch_transfer(self, batch: Tensor, dataloader_idx: int) -> Any:
        self.total = len(batch)
        batch = ranks.mine(batch)
        images, labels = to_float(self.images[batch]), self.labels[batch]
        if self.augment is not None:
            place = (self.loader.epoch, self.loader.taken) if self.loader else self.position
            with ranks.own_noise(images.device, "augment", *place):
                images = self.augment(images)
        return images, labels
