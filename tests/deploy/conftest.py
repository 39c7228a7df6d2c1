"""One tiny cell that kept its weights, and the files exported from it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from steeldefect.classify.training import train_cell
from steeldefect.deploy.export import export, find_cell
from steeldefect.deploy.sample import sample
from steeldefect.runs.prepare import prepare
from steeldefect.runs.store import Store
from tests.conftest import ROOT, TINY

# 32 px files, 24 px into the network: the resize is part of what is exported
CELL = [*TINY, "classifier=small_cnn", "classifier.image_size=24", "mix=org100", "optimizer.lr=0.02"]


def composed_cell(artifacts: Path, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train_classifier", [*overrides, f"artifacts={artifacts}"])


@dataclass(frozen=True)
class Exported:
    store: Store
    record: dict[str, Any]
    onnx: Path
    torch: Path

    @property
    def weights(self) -> Path:
        return self.store.folder("cells", self.record["id"]) / "weights.pt"


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    artifacts = tmp_path_factory.mktemp("deploy") / "artifacts"
    identifier = train_cell(prepare(composed_cell(artifacts, *CELL, "keep_weights=true")))
    store = Store(artifacts)
    made = Exported(store, find_cell(store, identifier), artifacts / "model.onnx", artifacts / "model.pt")
    images, source, reason = sample(store, made.record, None, 32, None)
    assert source.startswith("test part") and not reason
    for kind, output in (("onnx", made.onnx), ("torch", made.torch)):
        export(made.record, made.weights, kind, output, images, source, 1e-4)
    return made
