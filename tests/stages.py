"""Small real runs that can be disturbed, and what undisturbed ones leave."""

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from tests.conftest import ROOT, TINY

OPTIONS = [*TINY, "classifier=small_cnn", "mix=org20", "trainer=cpu", "precision=32-true"]


def tiny(verb: str, artifacts: Path, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose(verb, [*OPTIONS, *overrides, f"artifacts={artifacts}"])


def hashes(artifacts: Path, kind: str) -> dict[str, str]:
    """Checksum of every file of the one artifact of a kind; a record without what tells one run from another."""
    (manifest,) = artifacts.glob(f"{kind}/*/manifest.json")
    found = {name: of["sha256"] for name, of in json.loads(manifest.read_text())["files"].items()}
    if "record.json" in found:
        record = json.loads((manifest.parent / "record.json").read_text())
        found["record.json"] = json.dumps({k: v for k, v in record.items() if k not in ("cost", "environment")})
    return found


def make(stage: str, artifacts: Path, *overrides: str) -> None:
    """One stage in this process, by the task of its verb."""
    verb = importlib.import_module(f"experiments.{stage}")
    verb.main.__wrapped__(tiny(stage, artifacts, *overrides))


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Artifacts with a generator, its bank, and one cell on its phase `initial`, none of them disturbed."""
    artifacts = tmp_path_factory.mktemp("made") / "artifacts"
    for stage in ("train_gan", "synthesize", "train_classifier"):
        make(stage, artifacts)
    return artifacts


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of `made` to damage; the kinds that are named are left out."""

    def copy(*without: str) -> Path:
        folder = tmp_path / "artifacts"
        shutil.copytree(made, folder)
        for kind in without:
            shutil.rmtree(folder / kind)
        return folder

    return copy
