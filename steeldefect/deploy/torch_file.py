"""The torch side of a model file: written, read back, run."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from steeldefect.classify.backbones import build_classifier
from steeldefect.data.datamodule import to_float
from steeldefect.data.resize import resize
from steeldefect.deploy.card import Card
from steeldefect.runs.errors import UserError

CHUNK = 64  # images at a time


def network_of(classifier: Mapping[str, Any], weights: Mapping[str, Tensor], classes: int) -> nn.Module:
    """A cell's network on the CPU, in eval mode; the file that it once started from is not needed again."""
    network = build_classifier({**classifier, "weights": None}, classes)
    network.load_state_dict(weights)
    return network.eval()


def save(weights: Mapping[str, Tensor], card: Card, path: Path) -> None:
    torch.save({"card": card.plain(), "weights": dict(weights)}, path)


def load(path: Path) -> tuple[dict[str, Any], nn.Module]:
    """The card's values and the network; UserError where the file is not one that `save` wrote."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        values, weights = content["card"], content["weights"]
        return values, network_of(values["classifier"], weights, len(values["labels"]))
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, EOFError, pickle.UnpicklingError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"model={path}: not a file of experiments/export.py format=torch ({reason})") from None


@torch.inference_mode()
def probabilities(network: nn.Module, images: np.ndarray, network_size: int) -> np.ndarray:
    """float32 `(N, C)` for uint8 `(N, S, S)`, by the path on which cells are evaluated: data module, network."""
    parts = [network(to_float(part)).float().softmax(1) for part in resize(images, network_size).split(CHUNK)]
    return torch.cat(parts).numpy()
