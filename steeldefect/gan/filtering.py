"""Which of the drawn images come into a bank when it is filtered (`bank.filter`)."""

import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn

from steeldefect.data.datamodule import to_float
from steeldefect.gan.networks import PerClass

# images uint8 (n, S, S) and labels (n,) to a figure each, larger where an image looks more like its class
Plausibility = Callable[[np.ndarray, np.ndarray], np.ndarray]


def candidates(count: int, classes: int, keep: float) -> int:
    """How many images to draw, so that the share `keep` of those of each class fills a bank of `count`."""
    return classes * math.ceil(math.ceil(count / classes) / keep)


def most_plausible(chunks: Iterable[np.ndarray], count: int, classes: int, plausibility: Plausibility) -> np.ndarray:
    """int64 `(count,)`: the latent number of each bank image, image k being of class k mod C; `chunks` hold them all.

    Within a class the kept images stand in the order of their numbers, not of their plausibility: the first of them,
    which a small mix takes, are no better than the rest.
    """
    scores: list[np.ndarray] = []
    done = 0
    for chunk in chunks:
        scores.append(plausibility(chunk, np.arange(done, done + len(chunk)) % classes))
        done += len(chunk)
    every = np.concatenate(scores)
    kept = np.empty(count, np.int64)
    for c in range(min(classes, count)):
        own = np.arange(c, done, classes)
        best = own[np.argsort(-every[own], kind="stable")[: len(range(c, count, classes))]]
        kept[c::classes] = np.sort(best)
    return kept


@torch.inference_mode()
def logits(discriminator: nn.Module, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The discriminator's logit `(n,)` of each image as one of its class."""
    device = next(discriminator.parameters()).device
    x, y = to_float(torch.from_numpy(images).to(device)), torch.from_numpy(labels).to(device)
    if not isinstance(discriminator, PerClass):
        return np.asarray(_one_each(discriminator(x, y)))
    found = np.empty(len(labels), np.float32)
    for label in np.unique(labels).tolist():
        own = labels == label
        found[own] = _one_each(discriminator.of(label)(x[own], y[own]))
    return found


def _one_each(logits: Tensor) -> np.ndarray:
    """Of a discriminator with several logits an image, their mean."""
    return logits.float().view(len(logits), -1).mean(1).cpu().numpy()
