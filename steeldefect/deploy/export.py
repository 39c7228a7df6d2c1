"""A finished cell as one file that needs nothing else: an ONNX graph, or torch weights with their card."""

import logging
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steeldefect.data.datamodule import resize
from steeldefect.deploy.backends import load_model
from steeldefect.deploy.card import Card, card_of_record
from steeldefect.deploy.torch_file import network_of, probabilities, save
from steeldefect.runs.errors import MissingArtifact, nearest, require
from steeldefect.runs.store import Store, read_json, write_json

FORMATS = {"onnx": ".onnx", "torch": ".pt"}
CHUNK = 64  # images at a time in the check
TIES = 1e-3  # share of pixels that may round the other way
Writer = Callable[[Card, Path], None]


class Deployed(nn.Module):
    """A classifier behind its preprocessing: uint8 `(N, S, S)` gray to (logits, probabilities, pixels).

    The first two are `(N, C)` float32; pixels `(N, 1, s, s)`, whole levels as float32, are what the network saw.
    Resizes and rounds as the data module does. The resampling is written out as a matrix: onnxruntime's own
    antialiased resize is off by up to 2e-3 levels, which the rounding turns into whole ones.
    """

    weights: Tensor

    def __init__(self, network: nn.Module, image_size: int, network_size: int) -> None:
        super().__init__()
        self.network = network
        self.resized = image_size != network_size
        unit = torch.eye(image_size)[None, None]
        weights = F.interpolate(unit, (network_size, image_size), mode="bilinear", antialias=True)[0, 0]
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = images.unsqueeze(1).float()
        if self.resized:
            # along the rows first, as torch does
            x = (self.weights @ (x @ self.weights.T)).round().clamp(0, 255)
        logits = self.network(x / 127.5 - 1)
        return logits, logits.softmax(1), x


def find_cell(store: Store, identifier: str) -> dict[str, Any]:
    """The record of a finished cell; `identifier` may be the beginning of its id. UserError where there is none."""
    cells = store.root / "cells"
    names = sorted(path.parent.name for path in cells.glob("[!.]*/manifest.json")) if cells.is_dir() else []
    found = [identifier] if identifier in names else [name for name in names if name.startswith(identifier)]
    require(len(found) < 2, lambda: f"cell={identifier}: begins {len(found)} cells: {', '.join(found)}")
    require(bool(found), lambda: f"cell={identifier}: no such cell under {cells}; {nearest(identifier, names)}")
    return read_json(cells / found[0] / "record.json")


def weights_of(store: Store, record: Mapping[str, Any], command: Callable[[Mapping[str, Any]], str]) -> Path:
    """The cell's file of weights; MissingArtifact with the command that trains it again where it kept none."""
    path = store.folder("cells", record["id"]) / "weights.pt"
    if not path.is_file():
        raise MissingArtifact(
            f"cell={record['id']}: kept no weights, since it was trained without keep_weights=true; train it again, "
            f"under the same id, with\n  {command(record)}"
        )
    return path


def export(
    record: Mapping[str, Any], weights: Path, kind: str, output: Path, images: np.ndarray, source: str, tolerance: float
) -> Card:
    """Write `output`, check it on uint8 `images` `(N, S, S)`, publish it; its card, with the check, also as JSON beside.

    `source` says what the images are. UserError, and no file, where a probability differs by more than `tolerance`.
    """
    require(kind in FORMATS, lambda: f"format={kind}: {nearest(kind, FORMATS)}")
    require(output.suffix == FORMATS[kind], lambda: f"output={output}: format={kind} ends in {FORMATS[kind]}")
    card = card_of_record(record)
    state = torch.load(weights, map_location="cpu", weights_only=True)
    network = network_of(card.classifier, state, len(card.labels))
    write = _onnx_writer(network, card) if kind == "onnx" else lambda card, path: save(state, card, path)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as folder:
        made = Path(folder) / output.name
        write(card, made)
        card = replace(card, check=check(made, network, images, source, tolerance))
        write(card, made)
        made.replace(output)
    write_json(output.with_name(f"{output.name}.json"), card.plain())
    return card


def _onnx_writer(network: nn.Module, card: Card) -> Writer:
    """Traces once; the batch is dynamic, the card goes into the metadata."""
    model = Deployed(network, card.image_size, card.preprocessing["network_size"]).eval()
    example = (torch.zeros(2, card.image_size, card.image_size, dtype=torch.uint8),)
    for noisy in ("onnxscript", "onnx_ir", "torch.onnx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model,
            example,
            dynamo=True,
            input_names=["images"],
            output_names=["logits", "probabilities", "pixels"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    assert program is not None

    def write(card: Card, path: Path) -> None:
        program.model.metadata_props.update(card.metadata())
        program.save(path, external_data=False)

    return write


def check(path: Path, network: nn.Module, images: np.ndarray, source: str, tolerance: float) -> dict[str, Any]:
    """The file, read back and run as `predict` runs it, beside torch and the data module on the same images.

    Two sums in another order round a pixel at k + 1/2 either way, so pixels may differ by one level on at most
    `TIES` of them; `tolerance` holds for the probabilities that torch gives for the pixels of the file.
    `max_difference_end_to_end` compares the two whole paths.
    """
    model = load_model(path)
    size = model.card.preprocessing["network_size"]
    found, same_pixels, own = [], [], []
    level, ties = 0.0, 0
    for part in np.split(images, range(CHUNK, len(images), CHUNK)):
        pixels = torch.from_numpy(model.pixels(part))
        difference = (pixels.float() - resize(part, size).float()).abs()
        level, ties = max(level, float(difference.max())), ties + int((difference > 0).sum())
        found.append(model.probabilities(part))
        same_pixels.append(probabilities(network, pixels.numpy(), size))
        own.append(probabilities(network, part, size))
    a, b, c = (np.concatenate(parts) for parts in (found, same_pixels, own))
    result = {
        "images": len(images),
        "source": source,
        "max_difference": float(np.abs(a - b).max()),
        "max_difference_end_to_end": float(np.abs(a - c).max()),
        "pixels_rounded_otherwise": ties / (len(images) * size**2),
        "same_class": int((a.argmax(1) == c.argmax(1)).sum()),
        "tolerance": tolerance,
    }
    require(
        level <= 1 and result["pixels_rounded_otherwise"] <= TIES,
        f"{path.name}: its resize differs from the data module's by {level:g} levels, in a share of "
        f"{result['pixels_rounded_otherwise']:.2g} of the pixels; nothing was exported",
    )
    require(
        result["max_difference"] <= tolerance,
        f"{path.name}: a probability differs from torch's by {result['max_difference']:.2g}, more than "
        f"tolerance={tolerance}, on {len(images)} images ({source}), {result['same_class']} of them in the same class; "
        "nothing was exported",
    )
    return result
