"""`make doctor` in this process: a sound place, and one thing wrong at a time."""

from pathlib import Path

import pytest

from experiments import doctor
from tests.stages import make


def told(capsys: pytest.CaptureFixture[str], artifacts: Path, *overrides: str) -> tuple[int, list[str]]:
    """Exit code, and what is not ok."""
    code = 0
    try:
        make("doctor", artifacts, *overrides)
    except SystemExit as left:
        code = int(left.code or 0)
    lines = capsys.readouterr().out.splitlines()
    names = {line.split(":")[0].split()[-1] for line in lines}
    assert names == {"installation", "code", "artifacts", "data", "device", "tracking"}
    return code, [line for line in lines if not line.startswith("ok")]


def test_a_sound_place(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, wrong = told(capsys, tmp_path / "artifacts")
    assert code == 0 and all(line.startswith("warn") for line in wrong)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["dataset.name=image_folder", "dataset.root=/nowhere"], "FAIL  data: dataset.root=/nowhere: no such folder"),
        (["augment=classic"], "FAIL  data: augment=classic"),
        (["trainer.accelerator=tpu"], "trainer.accelerator=tpu: choices"),
        (["bank.count=100000000000"], "GiB free, a bank of 100000000000 images"),
        (["trainer.deterministic=false"], "warn  device: trainer.deterministic=false"),
    ],
)
def test_what_would_go_wrong_is_said(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, overrides: list[str], message: str
) -> None:
    code, wrong = told(capsys, tmp_path / "artifacts", *overrides)
    assert any(message in line for line in wrong), wrong
    assert code == any(line.startswith("FAIL") for line in wrong)


def test_wandb_online_without_a_key(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    code, wrong = told(capsys, tmp_path / "artifacts", "logger=wandb")
    assert code == 1 and any("FAIL  tracking: WANDB_MODE=online without" in line for line in wrong)
    assert told(capsys, tmp_path / "artifacts", "logger=csv")[0] == 0


def test_a_place_that_cannot_be_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, wrong = told(capsys, tmp_path / "file")
    assert code == 1 and any(line.startswith("FAIL  artifacts:") for line in wrong)


def test_starts_without_bytecode_are_slow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    monkeypatch.setattr("importlib.util.cache_from_source", lambda path: str(tmp_path / "torch.pyc"))
    assert any(state == "warn" and "PYTHONDONTWRITEBYTECODE" in text for state, text in doctor.installation())
    (tmp_path / "torch.pyc").touch()
    assert not any("PYTHONDONTWRITEBYTECODE" in text for _, text in doctor.installation())
