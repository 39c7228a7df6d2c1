"""Nothing that is loaded can run code, and nothing that is written holds a secret of the environment."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.stages import OPTIONS, tiny

SOURCES = sorted(
    path for part in ("steeldefect", "experiments", "hydra_plugins") for path in (ROOT / part).rglob("*.py")
)
FORBIDDEN = {
    "pickles": r"\bpickle\.(load|dump|Unpickler\b|Pickler\b)|allow_pickle\s*=\s*True|\bjoblib\.load|\bshelve\b|\bdill\b",
    "code from text": r"(?<![.\w])(eval|exec|compile|__import__)\(",
    "a shell": r"shell\s*=\s*True|os\.system|os\.popen",
    "unsafe YAML": r"yaml\.(unsafe_load|load|full_load)\(",
    "a network": r"\b(urlopen|requests|httpx|urlretrieve|load_state_dict_from_url)\b|torch\.hub|pretrained\s*=\s*True",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_the_source_holds_none_of(what: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in SOURCES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(FORBIDDEN[what], line)
    ]
    assert not found, "\n".join(found)


def test_tensors_are_loaded_as_weights_only() -> None:
    calls = [
        call
        for path in SOURCES
        for call in re.findall(r"(?:torch\.load|load_from_checkpoint|trainer\.fit)\([^\n]*", path.read_text())
    ]
    assert len(calls) >= 3
    assert all("weights_only=True" in call for call in calls), calls


@pytest.mark.parametrize("trainer", ["auto", "cpu"])
def test_runs_on_a_cpu_are_deterministic_unless_told_otherwise(tmp_path: Path, trainer: str) -> None:
    assert tiny("train_gan", tmp_path, f"trainer={trainer}").trainer.deterministic is True


def test_no_secret_of_the_environment_is_written(copied: Callable[..., Path]) -> None:
    artifacts = copied("cells")
    secrets = {"WANDB_API_KEY": "0123456789planted" * 2 + "abcdef", "MY_PASSWORD": "planted-by-a-test"}
    command = [sys.executable, str(ROOT / "experiments" / "train_classifier.py"), *OPTIONS, "logger=wandb"]
    own = os.environ | secrets | {"WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, f"artifacts={artifacts}"], env=own, capture_output=True, timeout=900, cwd=ROOT)
    assert done.returncode == 0, done.stderr.decode()
    written = {path: path.read_bytes() for path in artifacts.rglob("*") if path.is_file()}
    assert any(path.suffix == ".wandb" for path in written) and any(path.name == "record.json" for path in written)
    written[Path("its output")] = done.stdout + done.stderr
    for name, secret in secrets.items():
        assert not [str(path) for path, content in written.items() if secret.encode() in content], name


def test_a_record_says_what_its_digits_depend_on(made: Path) -> None:
    import json

    (record,) = made.glob("cells/*/record.json")
    environment = json.loads(record.read_text())["environment"]
    assert environment["deterministic"] is True and environment["threads"] >= 1
    assert {"machine", "device", "precision", "torch", "numpy", "python", "commit"} <= environment.keys()
