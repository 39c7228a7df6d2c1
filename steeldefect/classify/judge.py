"""Classifiers that judge images of a generator: one phase from fresh weights, fixed updates, augment none."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from steeldefect.classify.module import ClassifierModule, logits_of, train_accuracy
from steeldefect.classify.record import TRAINED
from steeldefect.data.datamodule import MixDataModule
from steeldefect.data.resize import resize
from steeldefect.runs.context import Context
from steeldefect.runs.device import torch_device
from steeldefect.runs.identity import derived_seed, digest
from steeldefect.runs.training import SCRATCH, fit, save_weights, seed_everything

log = logging.getLogger(__name__)


def train_judge(context: Context, identity: Mapping[str, Any], images: np.ndarray, labels: np.ndarray) -> str:
    """The id of the judge that `Context.judge_identity` names, trained on these images if it is not there yet.

    A judge that tells less than nine tenths of its own training images says little: that is logged and in the manifest.
    """
    identifier, settings = digest(identity), context.settings
    with context.store.write("judges", identity, wait=True) as work:
        if work is not None:
            module, quality = _fresh(context, identity), settings["quality"]
            data = MixDataModule(
                (images, labels),
                None,
                quality["classifier"]["image_size"],
                quality["optimizer"]["batch_size"],
                derived_seed("judge", "order", settings["train_seed"]),
            )
            title = f"judge {identity['role']}, trained on {'real' if identity['synthetic'] is None else 'synthetic'}"
            seed, limits = derived_seed("judge", identity["role"], settings["train_seed"]), {"max_epochs": -1}
            limits["max_steps"] = identity["updates"]
            work.seconds_before = fit(
                module, data, settings, work.folder, identity["precision"], seed, title, [], limits
            )
            save_weights(module.network.state_dict(), work.folder / "weights.pt")
            accuracy = train_accuracy(module, data, identity["precision"])
            work.summary |= {"train_accuracy": accuracy, "trained": accuracy >= TRAINED, "images": len(labels)}
            work.scratch += SCRATCH
    summary = context.store.manifest("judges", identifier)["summary"]
    if not summary["trained"]:
        log.warning("judge %s did not train: accuracy %.2f on its own images", identifier, summary["train_accuracy"])
    return identifier


def load_judge(context: Context, identity: Mapping[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    """A finished judge, as a function from uint8 images `(N, S, S)` of any size to float32 logits `(N, classes)`."""
    module, size = _fresh(context, identity), context.settings["quality"]["classifier"]["image_size"]
    weights = context.store.folder("judges", digest(identity)) / "weights.pt"
    module.network.load_state_dict(torch.load(weights, weights_only=True, map_location="cpu"))
    module.to(torch_device(context.settings["trainer"]["accelerator"]))

    def judge(images: np.ndarray) -> np.ndarray:
        return np.asarray(logits_of(module, resize(images, size), identity["precision"]).numpy())

    return judge


def _fresh(context: Context, identity: Mapping[str, Any]) -> ClassifierModule:
    quality = context.settings["quality"]
    # the judge of a filter and the one that measures must not be the same network: that one would find what it chose
    seed_everything(derived_seed("judge", "init", identity["role"], context.settings["train_seed"]))
    return ClassifierModule(quality["classifier"], quality["optimizer"], len(context.images.classes))
