"""`hydra/launcher=local` with cells that are killed, fail, hang or run out of memory: each costs itself alone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hydra_plugins.steeldefect_local.launcher import least_used
from steeldefect.runs.identity import digest
from steeldefect.runs.store import Store
from tests.conftest import ROOT

APP = [sys.executable, str(ROOT / "tests" / "runs" / "launched.py"), "-m"]


def sweep(artifacts: Path, *overrides: str, **more: str) -> "subprocess.Popen[str]":
    environment = (
        os.environ | more | {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}", "OMP_NUM_THREADS": "1"}
    )
    command = [*APP, f"artifacts={artifacts}", *overrides]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def said(artifacts: Path) -> dict[int, str]:
    found = {r: artifacts / "cells" / digest({"replicate": r}) / "said.txt" for r in range(9)}
    return {r: path.read_text() for r, path in found.items() if path.exists()}


def test_a_cell_that_goes_under_takes_no_other_with_it(tmp_path: Path) -> None:
    local = ["hydra/launcher=local", "hydra.launcher.timeout_s=30", "hydra.launcher.threads=1"]
    process = sweep(tmp_path, "replicate=0,1,2,3,4,5", "hydra.launcher.n_jobs=3", *local)
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 1, out
    assert said(tmp_path) == {0: "[1/6] 1", 5: "[6/6] 1"}
    reasons = {1: "killed by SIGKILL, by the kernel if", 2: "exit code 1", 3: "timeout_s=30", 4: "exit code 2"}
    for replicate, reason in reasons.items():
        lines = [line for line in out.splitlines() if reason in line]
        assert len(lines) >= 2, f"{reason}: when it happens, and at the end\n{out}"
        assert all(f"cells/{digest({'replicate': replicate})} (" in line for line in lines)
    assert "4 of 6 cells failed" in out and "RuntimeError: the kiln is cold" in out
    assert "out of memory (" in out and "lower optimizer.batch_size" in out
    assert out.count("Traceback") == 1, f"of the one that is no user's error\n{out}"


def test_a_sweep_that_is_stopped_stops_its_cells(tmp_path: Path) -> None:
    process = sweep(tmp_path, "replicate=3,5", "hydra/launcher=local")
    note = tmp_path / "cells" / f".{digest({'replicate': 3})}.partial" / "said.txt"
    deadline = time.monotonic() + 300
    while not note.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 143, out
    assert out.count("stopped by SIGTERM") == 2 and said(tmp_path) == {}, out


def test_a_cell_that_another_process_makes_is_come_back_to(tmp_path: Path) -> None:
    with Store(tmp_path).write("cells", {"replicate": 5}) as work:
        assert work is not None
        process = sweep(tmp_path, "replicate=5,0", "hydra/launcher=local", "hydra.launcher.threads=1")
        deadline = time.monotonic() + 300
        while 0 not in said(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.05)
        (work.folder / "said.txt").write_text("the other")
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    assert said(tmp_path) == {0: "[2/2] 1", 5: "the other"} and "is being made by process" in out


def test_one_process_says_at_the_end_too_what_failed(tmp_path: Path) -> None:
    process = sweep(tmp_path, "replicate=2,4,5")
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 1 and said(tmp_path) == {5: "[3/3] 1"}
    assert out.count("the kiln is cold") >= 2 and "2 of 3 cells failed" in out, out


def test_an_error_of_the_user_is_told_without_a_traceback(tmp_path: Path) -> None:
    process = sweep(tmp_path, "replicate=4")
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 1 and "Traceback" not in out
    assert out.count("lower optimizer.batch_size") >= 2, f"when it happens, and at the end\n{out}"


def test_cells_side_by_side_have_a_gpu_each(tmp_path: Path) -> None:
    """Of those that the sweep may use; CUDA itself is not asked, so none need be there."""
    process = sweep(
        tmp_path, "replicate=0,5,6,7", "hydra/launcher=local", "hydra.launcher.n_jobs=2", CUDA_VISIBLE_DEVICES="3,5"
    )
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    seen = {path.parent.name: path.read_text() for path in tmp_path.glob("cells/*/gpu.txt")}
    assert set(seen.values()) == {"3", "5"} and len(seen) == 4


@pytest.mark.parametrize(
    ("gpus", "taken", "own"),
    [(["0"], [], None), ([], [None], None), (["0", "1"], ["0"], "1"), (["0", "1"], ["1", "0", "1"], "0")],
)
def test_the_least_used_gpu_is_next(gpus: list[str], taken: list[str | None], own: str | None) -> None:
    assert least_used(gpus, taken) == own


def test_bad_values_are_named(tmp_path: Path) -> None:
    process = sweep(tmp_path, "replicate=0,1", "hydra/launcher=local", "hydra.launcher.n_jobs=0")
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 1 and "hydra.launcher.n_jobs=0: must be above 0" in out


@pytest.mark.parametrize("place", ["file/artifacts", "file"])
def test_artifacts_that_cannot_be_written_are_named_before_anything_runs(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    process = sweep(tmp_path / place, "replicate=0,1")
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 2 and "cannot be written" in out and "Traceback" not in out
