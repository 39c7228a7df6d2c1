"""A finished cell as one file that needs nothing else: an ONNX graph, or torch weights with their card."""

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from steeldefect.data.resize import resampling
from steeldefect.deploy.backends import load_model
from steeldefect.deploy.card import Card, card_of_record
from steeldefect.deploy.torch_file import network_of, probabilities, save
from steeldefect.runs.errors import MissingArtifact, nearest, require
from steeldefect.runs.store import Store, read_json, write_json

FORMATS = {"onnx": ".onnx", "torch": ".pt"}
CHUNK = 64  # images at a time in the check
Writer = Callable[[Card, Path], None]


class Deployed(nn.Module):
    """A classifier behind its preprocessing: uint8 `(N, S, S)` gray to (logits, probabilities), `(N, C)` float32.

    Resizes as the data module does, to the same bytes.
    """

    weights: Tensor

    def __init__(self, network: nn.Module, image_size: int, network_size: int) -> None:
        super().__init__()
        self.network = network
        self.resized = image_size != network_size
        self.register_buffer("weights", resampling(image_size, network_size), persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = images.unsqueeze(1)
        if self.resized:
            x = (self.weights @ (x.double() @ self.weights.T)).round()
        logits = self.network(x.float() / 127.5 - 1)
        return logits, logits.softmax(1)


def find_cell(store: Store, identifier: str) -> dict[str, Any]:
    """The record of a finished cell; `identifier` may be the beginning of its id. UserError where there is none."""
    cells = store.root / "cells"
    names = sorted(path.parent.name for path in cells.glob("[!.]*/manifest.json")) if cells.is_dir() else []
    found = [identifier] if identifier in names else [name for name in names if name.startswith(identifier)]
    require(len(found) < 2, lambda: f"cell={identifier}: begins {len(found)} cells: {', '.join(found)}")
    known = nearest(identifier, names) if names else "no cell is finished there; is artifacts= right?"
    require(bool(found), lambda: f"cell={identifier}: no such cell under {cells}; {known}")
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


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """The exporter's hundred lines on each of its passes, and its warnings, say nothing to who exports."""
    for noisy in ("onnxscript", "onnx_ir", "torch.onnx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _onnx_writer(network: nn.Module, card: Card) -> Writer:
    """Traces once; the batch is dynamic, the card goes into the metadata."""
    model = Deployed(network, card.image_size, card.preprocessing["network_size"]).eval()
    example = (torch.zeros(2, card.image_size, card.image_size, dtype=torch.uint8),)
    with quiet_exporter():
        program = torch.onnx.export(
            model,
            example,
            dynamo=True,
            input_names=["images"],
            output_names=["logits", "probabilities"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    assert program is not None

    def write(card: Card, path: Path) -> None:
        program.model.metadata_props.update(card.metadata())
        program.save(path, external_data=False)

    return write


def check(path: Path, network: nn.Module, images: np.ndarray, source: str, tolerance: float) -> dict[str, Any]:
    """The file, read back and run as `predict` runs it, beside the path on which cells are evaluated, from bytes on."""
    model = load_model(path)
    size = model.card.preprocessing["network_size"]
    parts = np.split(images, range(CHUNK, len(images), CHUNK))
    found = np.concatenate([model.probabilities(part) for part in parts])
    expected = np.concatenate([probabilities(network, part, size) for part in parts])
    difference = float(np.abs(found - expected).max())
    same_class = int((found.argmax(1) == expected.argmax(1)).sum())
    require(
        difference <= tolerance,
        f"{path.name}: a probability differs from torch's by {difference:.2g}, more than tolerance={tolerance}, on "
        f"{len(images)} images ({source}), {same_class} of them in the same class; nothing was exported",
    )
    return {
        "images": len(images),
        "source": source,
        "max_difference": difference,
        "same_class": same_class,
        "tolerance": tolerance,
    }
