"""Files in, classes out: with no torch to import, whatever the pixel format, and with damaged files among them."""

import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from steeldefect.data.decode import Reading, decode
from steeldefect.deploy import gradcam as gradcam_file
from steeldefect.deploy import predict as predicting
from steeldefect.deploy.backends import load_model
from steeldefect.deploy.gradcam import gradcam
from steeldefect.deploy.predict import UNREADABLE, find_images, predict
from steeldefect.runs.errors import UserError
from tests.conftest import ROOT
from tests.data.test_decode import formats
from tests.deploy.conftest import Exported

OPTIONS = OmegaConf.load(Path(predicting.__file__).parent / "conf" / "predict.yaml")
NO_TORCH = """
import runpy, sys
for name in ("torch", "torchvision", "lightning", "sklearn", "pandas", "scipy", "matplotlib", "wandb", "torchmetrics"):
    sys.modules[name] = None
sys.argv = ["predict.py", *sys.argv[1:]]
runpy.run_path("experiments/predict.py", run_name="__main__")
"""


def options(**given: object) -> OmegaConf:
    return OmegaConf.merge(OPTIONS, given)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of every mode and of one size, in two folders, one of them damaged."""
    root = tmp_path / "scans"
    (root / "below").mkdir(parents=True)
    paths = formats(root / "below")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(root / "turned.jpg", exif=exif)
    (root / "broken.png").write_bytes(paths["rgb"].read_bytes()[:60])
    (root / "notes.txt").write_text("no image")
    return root


def test_without_torch_a_folder_is_classified_and_the_damaged_file_reported(exported: Exported, folder: Path) -> None:
    arguments = [f"model={exported.onnx}", f"images={folder}", "format=csv", "batch_size=3", "threads=1"]
    done = subprocess.run(
        [sys.executable, "-c", NO_TORCH, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert done.returncode == UNREADABLE, done.stderr
    assert "broken.png: cannot be read" in done.stderr and "1 of 11 files could not be read" in done.stderr
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert len(rows) == 10 and {row["file"] for row in rows} >= {str(folder / "turned.jpg")}
    model = load_model(exported.torch)
    images = np.stack([decode(Path(row["file"]), Reading(32)) for row in rows])
    expected = model.probabilities(images)
    found = np.array([[float(row[f"p_{name}"]) for name in model.card.labels] for row in rows])
    assert np.abs(found - expected).max() < 1e-4
    assert [row["class"] for row in rows] == [model.card.labels[k] for k in expected.argmax(1)]
    assert [float(row["probability"]) for row in rows] == pytest.approx(found.max(1).tolist())


def test_json_holds_model_images_and_what_could_not_be_read(exported: Exported, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "deep" / "found.json"
    code = predict(options(model=str(exported.onnx), images=str(folder), format="json", output=str(output)))
    found = json.loads(output.read_text())
    assert code == UNREADABLE and [Path(item["file"]).name for item in found["unreadable"]] == ["broken.png"]
    assert found["model"]["cell"] == exported.record["id"] and len(found["images"]) == 10
    assert all(sum(item["probabilities"].values()) == pytest.approx(1, abs=1e-4) for item in found["images"])


def test_a_thousand_files_in_one_go(exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "many").mkdir()
    data = np.random.default_rng(0).integers(0, 256, (1000, 8, 8), dtype=np.uint8)
    for i, image in enumerate(data):
        Image.fromarray(image).save(tmp_path / "many" / f"{i}.bmp")
    code = predict(options(model=str(exported.onnx), images=str(tmp_path / "many"), format="csv", threads=1))
    rows = capsys.readouterr().out.splitlines()
    # in the order in which a person would count
    assert code == 0 and len(rows) == 1001 and rows[1].split(",")[0].endswith("/0.bmp") and "/999.bmp" in rows[-1]


def test_a_camera_of_twelve_bits_is_told_of_and_read_by_bits(
    exported: Exported, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The same scene by 8 bits, and by 12 of 16: black without `bits`, and with it what 8 bits give."""
    levels = np.random.default_rng(0).integers(0, 256, (32, 32))
    eight, twelve = tmp_path / "eight.png", tmp_path / "twelve.tiff"
    Image.fromarray(levels.astype(np.uint8)).save(eight)
    Image.fromarray((levels * 4095 // 255).astype(np.uint16)).save(twelve)

    def found(path: Path, **given: object) -> list[float]:
        output = tmp_path / "found.json"
        named = {"model": str(exported.onnx), "images": str(path), "format": "json", "output": str(output)}
        assert predict(options(**named, **given)) == 0
        return list(json.loads(output.read_text())["images"][0]["probabilities"].values())

    expected = found(eight)
    assert not caplog.text
    assert found(twelve) != pytest.approx(expected, abs=0.01)
    assert "the 16-bit images reach 4095 of 65535" in caplog.text and "give bits=12" in caplog.text
    caplog.clear()
    assert found(twelve, bits=12) == pytest.approx(expected, abs=0.01) and not caplog.text


def test_a_table_names_each_file_and_class(exported: Exported, folder: Path, capsys) -> None:
    code = predict(options(model=str(exported.onnx), images=str(folder / "*.jpg")))
    shown = capsys.readouterr().out
    assert code == 0 and "turned.jpg" in shown and any(name in shown for name in exported.record["classes"])


def test_what_an_archiver_leaves_is_no_image(folder: Path) -> None:
    before = find_images(folder)[0]
    (folder / "__MACOSX").mkdir()
    for name in ("._x.png", "__MACOSX/x.png"):
        (folder / name).write_bytes(b"notes")
    assert find_images(folder)[0] == before


def test_files_are_found_by_folder_pattern_and_name(folder: Path) -> None:
    assert len(find_images(folder)[0]) == 11
    assert [p.name for p in find_images(folder / "*.png")[0]] == ["broken.png"]
    # asked for by name, so tried whatever its ending
    assert [p.name for p in find_images(folder / "notes.txt")[0]] == ["notes.txt"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": None}, "model=null: give the file"),
        ({"model": "none.onnx"}, r"model=none\.onnx: no such file"),
        ({"images": "nowhere/*.png"}, r"images=nowhere/\*\.png: no such file"),
        ({"format": "tabel"}, "format=tabel: did you mean 'table'"),
        ({"batch_size": 0}, "batch_size=0: must be"),
        ({"bits": 99}, "bits=99: must be null or a whole number from 8 to 16"),
        ({"gradcam": "maps"}, "gradcam=maps: needs gradients.*format=torch"),
    ],
)
def test_bad_options_are_answered_with_key_and_value(exported: Exported, given: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        predict(options(**({"model": str(exported.onnx), "images": "."} | given)))


@pytest.mark.parametrize(
    ("name", "message"), [("x.onnx", "cannot be loaded"), ("x.pt", "not a file of"), ("x", "must end")]
)
def test_files_that_are_no_models_are_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / name).write_bytes(b"no model")
    with pytest.raises(UserError, match=message):
        load_model(tmp_path / name)


def test_grad_cam_finds_where_the_evidence_lies() -> None:
    """Class 1 is the mean of the image, so all its evidence is the one bright square."""

    class Mean(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = torch.nn.Conv2d(1, 1, 1, bias=False)
            torch.nn.init.ones_(self.features.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            mean = self.features(x).mean((2, 3))
            return torch.cat([-mean, mean], 1)

    images = torch.zeros(2, 1, 8, 8)
    images[:, :, 2:4, 5:7] = 1.0
    expected = images[0, 0]
    evidence = gradcam(Mean().eval(), images, [1, 0])
    assert torch.allclose(evidence[0], expected) and evidence[1].max() == 0


def test_overlays_are_written_beside_each_other_whatever_the_endings(exported: Exported, tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "maps"
    (source / "a").mkdir(parents=True)
    data = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
    for name in ("x.png", "x.bmp", "a/x.png"):
        Image.fromarray(data).save(source / name)
    given = {"model": str(exported.torch), "images": str(source), "gradcam": str(target), "output": str(tmp_path / "t")}
    assert predict(options(**given)) == 0
    made = sorted(path.relative_to(target).as_posix() for path in target.rglob("*.png"))
    assert made == ["a/x.png.png", "x.bmp.png", "x.png.png"]
    shown = np.asarray(Image.open(target / "x.png.png"))
    assert shown.shape == (32, 32, 3) and (shown.max(-1) > shown.min(-1)).any()


def test_an_overlay_shows_the_evidence_of_its_image_s_class_where_it_lies(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[int]] = []

    def corner(network: torch.nn.Module, images: torch.Tensor, classes: Sequence[int]) -> torch.Tensor:
        asked.append(list(classes))
        evidence = torch.zeros(len(images), 32, 32)
        evidence[:, :8, 20:28] = 1
        return evidence

    monkeypatch.setattr(gradcam_file, "gradcam", corner)
    (tmp_path / "in").mkdir()
    for k in range(6):
        Image.fromarray(np.full((32, 32), 40 * k + 20, np.uint8)).save(tmp_path / "in" / f"{k}.png")
    table = tmp_path / "table.json"
    given = {"model": str(exported.torch), "images": str(tmp_path / "in"), "gradcam": str(tmp_path / "maps")}
    assert predict(options(**given, output=str(table), format="json")) == 0
    named = {Path(row["file"]).name: row["class"] for row in json.loads(table.read_text())["images"]}
    labels = load_model(exported.torch).card.labels
    assert [labels[c] for classes in asked for c in classes] == [named[name] for name in sorted(named)]
    shown = np.asarray(Image.open(tmp_path / "maps" / "0.png.png")).astype(int)
    assert np.ptp(shown[1:7, 21:27], axis=-1).min() > 0 and np.ptp(shown[20:28, :8], axis=-1).max() == 0
