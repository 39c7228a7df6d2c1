"""What is exported says what it is, and computes what torch computed."""

import json
import shlex
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from steeldefect.classify.backbones import build_classifier
from steeldefect.classify.training import train_cell
from steeldefect.data.decode import Reading
from steeldefect.data.resize import resize
from steeldefect.deploy.backends import load_model
from steeldefect.deploy.card import Card, card_of, card_of_record
from steeldefect.deploy.export import Deployed, _onnx_writer, check, find_cell, weights_of
from steeldefect.deploy.rerun import GROUPS, cell_command
from steeldefect.deploy.sample import sample
from steeldefect.deploy.torch_file import probabilities
from steeldefect.runs.errors import MissingArtifact, UserError
from steeldefect.runs.identity import digest
from steeldefect.runs.loggers import paths_given, public
from steeldefect.runs.prepare import prepare
from steeldefect.runs.settings import plain
from steeldefect.runs.store import Store
from tests.conftest import ROOT
from tests.data.test_sources import picture, save
from tests.deploy.conftest import CELL, Exported, composed_cell

CHOICES = {group: [p.stem for p in (ROOT / "conf" / group).glob("*.yaml")] for group in (*GROUPS, "mix")}
NOISE = np.random.default_rng(0).integers(0, 256, (6, 32, 32), dtype=np.uint8)


def test_the_onnx_file_holds_labels_preprocessing_provenance_and_check(exported: Exported) -> None:
    session = onnxruntime.InferenceSession(exported.onnx, providers=["CPUExecutionProvider"])
    found = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    assert found["steeldefect.labels"] == exported.record["classes"]
    shown = found["steeldefect.preprocessing"]
    assert (shown["image_size"], shown["network_size"]) == (32, 24)
    provenance = found["steeldefect.provenance"]
    assert provenance["cell"] == exported.record["id"] and provenance["dataset"] == "rendered"
    assert provenance["metrics"] == exported.record["metrics"] and provenance["commit"] and provenance["command"]
    checked = found["steeldefect.check"]
    assert checked["images"] == checked["same_class"] == exported.record["counts"]["test"]
    assert 0 <= checked["max_difference"] <= 1e-4
    beside = json.loads(exported.onnx.with_name("model.onnx.json").read_text())
    assert beside["check"] == checked
    assert session.get_inputs()[0].shape[1:] == [32, 32] and isinstance(session.get_inputs()[0].shape[0], str)


def test_a_card_keeps_no_folder_of_the_machine(exported: Exported) -> None:
    typed = "python experiments/train_classifier.py dataset.root=/home/me/photographs mix=org20"
    environment = exported.record["environment"] | {"command": typed}
    card = card_of_record(exported.record | {"environment": environment})
    assert card.provenance["command"] == "python experiments/train_classifier.py dataset.root=photographs mix=org20"


@pytest.mark.parametrize("batch", [1, 5])
def test_both_files_give_the_same_probabilities_for_any_batch(exported: Exported, batch: int) -> None:
    onnx, other = load_model(exported.onnx), load_model(exported.torch)
    found = onnx.probabilities(NOISE[:batch])
    assert found.shape == (batch, 6) and found.dtype == np.float32
    assert np.abs(found - other.probabilities(NOISE[:batch])).max() < 1e-4
    assert np.allclose(found.sum(1), 1, atol=1e-5) and onnx.card.labels == other.card.labels


def test_predictions_of_the_file_are_those_of_the_record(exported: Exported) -> None:
    """predictions.csv was written by the cell itself; classes and logits' softmax come back from the file."""
    rows = (exported.store.folder("cells", exported.record["id"]) / "predictions.csv").read_text().splitlines()[1:]
    logits = torch.tensor([[float(x) for x in row.split(",")[4:]] for row in rows])
    images, *_ = sample(exported.store, exported.record, None, 32, None)
    found = load_model(exported.onnx).probabilities(images)
    # the record may have been computed in bf16
    assert np.abs(found - logits.softmax(1).numpy()).max() < 0.02


@pytest.mark.parametrize(("size", "network_size"), [(32, 24), (200, 64), (48, 64), (32, 32)])
def test_the_model_resizes_as_the_data_module_does(size: int, network_size: int) -> None:
    images = np.random.default_rng(1).integers(0, 256, (4, size, size), dtype=np.uint8)
    seen: list[torch.Tensor] = []

    class Spy(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return x.flatten(1)[:, :2]

    Deployed(Spy(), size, network_size)(torch.from_numpy(images))
    found = ((seen[0][:, 0] + 1) * 127.5).round()
    assert torch.equal(found, resize(images, network_size).float())


def test_a_network_for_three_channels_exports_too(tmp_path: Path) -> None:
    options = {"name": "mobilenet_v2", "width": 0.25, "weights": None, "image_size": 32}
    torch.manual_seed(0)
    network = build_classifier(options, 3).eval()
    card = Card(("a", "b", "c"), {"image_size": 40, "network_size": 32, "decode_recipe": 1}, options, {})
    _onnx_writer(network, card)(card, tmp_path / "model.onnx")
    images = np.random.default_rng(2).integers(0, 256, (3, 40, 40), dtype=np.uint8)
    found = load_model(tmp_path / "model.onnx").probabilities(images)
    assert np.abs(found - probabilities(network, images, 32)).max() < 1e-4


def test_a_file_that_differs_from_torch_is_refused(exported: Exported) -> None:
    model = load_model(exported.torch)
    with torch.no_grad():
        next(model.network.parameters()).add_(0.5)
    with pytest.raises(
        UserError, match=r"differs from torch's by .* more than tolerance=0\.0001, on 6 images \(noise\)"
    ):
        check(exported.onnx, model.network, NOISE, "noise", 1e-4)


def test_without_the_data_set_the_check_falls_back_and_says_so(exported: Exported) -> None:
    record = exported.record | {"ids": exported.record["ids"] | {"dataset": "other"}}
    images, source, reason = sample(exported.store, record, None, 32, None)
    assert images.shape[1:] == (32, 32) and "rendered" in source and "the cell's was other" in reason
    folder = record["config"]["dataset"] | {"name": "image_folder"}
    _, _, reason = sample(exported.store, record | {"config": record["config"] | {"dataset": folder}}, None, 32, None)
    assert "dataset.root=null" in reason


def test_unknown_and_ambiguous_cells_are_named(exported: Exported, tmp_path: Path) -> None:
    identifier = exported.record["id"]
    assert find_cell(exported.store, identifier[:5])["id"] == identifier
    with pytest.raises(UserError, match="no such cell under"):
        find_cell(exported.store, "zzz")
    for name in ("abc1", "abc2"):
        (tmp_path / "cells" / name).mkdir(parents=True)
        (tmp_path / "cells" / name / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match="cell=abc: begins 2 cells: abc1, abc2"):
        find_cell(Store(tmp_path), "abc")


def test_a_cell_without_weights_names_the_command_that_makes_them(tmp_path: Path) -> None:
    """The command is run: it trains the same cell, under the same id, this time with weights."""
    artifacts = tmp_path / "artifacts"
    identifier = train_cell(prepare(composed_cell(artifacts, *CELL, "repeat=1")))
    store = Store(artifacts)
    record = find_cell(store, identifier)

    def command(record: dict) -> str:
        return cell_command(record, lambda overrides: composed_cell(artifacts, *overrides), CHOICES, artifacts)

    with pytest.raises(MissingArtifact, match="kept no weights") as error:
        weights_of(store, record, command)
    words = shlex.split(str(error.value).splitlines()[-1])
    assert words[:2] == ["python", "experiments/train_classifier.py"] and "keep_weights=true" in words
    assert train_cell(prepare(composed_cell(artifacts, *words[2:]))) == identifier
    assert weights_of(store, record, command).is_file()
    again = find_cell(store, identifier)
    assert again["metrics"] == record["metrics"] and again["config"]["keep_weights"]


def words_of(record: dict, artifacts: Path, default: Path) -> list[str]:
    return shlex.split(cell_command(record, lambda given: composed_cell(default, *given), CHOICES, artifacts))[2:]


def test_the_command_asks_for_every_path_that_was_given(exported: Exported, tmp_path: Path) -> None:
    """With the paths in the place of its words in capitals it is the same cell; the record itself holds none."""
    root, artifacts = tmp_path / "data", tmp_path / "artifacts"
    rows = []
    for name in ("dent", "scratch"):
        for k in range(16):
            save(root / name / f"{k}.png", picture(len(rows), 32))
            rows.append(f"{name}/{k},{'train' if k < 10 else 'test'},{len(rows)}")
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["image,part,scene", *rows]) + "\n")
    weights = tmp_path / "start.pt"
    torch.save(build_classifier(exported.record["config"]["classifier"] | {"weights": None}, 2).state_dict(), weights)
    given = {"dataset.root": root, "dataset.scenes": table, "split.parts": table, "classifier.weights": weights}
    data = [
        "dataset=image_folder",
        "dataset.image_size=32",
        "split=given",
        *(f"{key}={path}" for key, path in given.items()),
    ]
    cell = composed_cell(artifacts, *CELL[3:], *data, "mix=org100")
    identifier = train_cell(prepare(cell))
    record = find_cell(Store(artifacts), identifier)
    assert record["paths_given"] == sorted(given) and str(tmp_path) not in json.dumps(record["config"])
    words = words_of(record, artifacts, tmp_path / "default")
    assert {"dataset.root=FOLDER", "dataset.scenes=FILE", "split.parts=FILE", "classifier.weights=FILE"} < set(words)
    assert f"artifacts={artifacts}" in words and not [
        w for w in words_of(record, artifacts, artifacts) if "artifacts" in w
    ]
    filled = [
        next((f"{key}={path}" for key, path in given.items() if word.startswith(f"{key}=")), word) for word in words
    ]
    assert digest(prepare(composed_cell(artifacts, *filled)).cell_identity) == identifier
    # a record of before the paths were noted
    del record["paths_given"]
    assert [word for word in words_of(record, artifacts, artifacts) if "=F" in word] == ["dataset.root=FOLDER"]


def test_the_command_of_a_cell_on_images_made_elsewhere_asks_for_their_folder(tmp_path: Path) -> None:
    settings = plain(composed_cell(tmp_path, *CELL, "mix=org20", "gan=folder", "gan.name=other", "gan.root=/made"))
    record = {"config": public(settings), "mix": "org20", "paths_given": paths_given(settings)}
    words = words_of(record, tmp_path, tmp_path)
    assert {"gan=folder", "gan.name=other", "gan.root=FOLDER"} < set(words)
    again = [word.replace("FOLDER", "/made") for word in words]
    assert plain(composed_cell(tmp_path, *again))["gan"] == settings["gan"]


def test_a_card_says_how_a_file_becomes_what_the_model_takes(exported: Exported) -> None:
    plain = card_of_record(exported.record)
    assert plain.reading(9) == Reading(32, 9) and "fit" not in plain.preprocessing
    config = exported.record["config"]
    changed = config | {"dataset": config["dataset"] | {"fit": "pad", "bits": 12}}
    card = card_of_record(exported.record | {"config": changed})
    read = card_of(card.plain(), "model.onnx")
    assert read.reading(9) == Reading(32, 9, 12, "pad") and read.reading(9, 10) == Reading(32, 9, 10, "pad")
