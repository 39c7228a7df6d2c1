"""A study of six cells on a real SLURM, one job taken away in the middle: the records are those of a local run."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.slurm import Slurm, missing
from tests.conftest import ROOT
from tests.stages import OPTIONS

STUDY = ["-m", "mix=org100,org20,org0", "augment=none,classical", "phases.retrain.updates=150"]


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Slurm]:
    if not os.environ.get("STEELDEFECT_CLUSTER"):
        pytest.skip("takes minutes: set STEELDEFECT_CLUSTER=1 to run it")
    pytest.importorskip(
        "submitit", reason="hydra-submitit-launcher is not installed: pip install -c constraints.txt -e '.[slurm]'"
    )
    if missing():
        pytest.skip(missing())
    lab = tmp_path / "lab"
    lab.mkdir(mode=0o755)
    cluster = Slurm(lab)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def study(artifacts: Path, *overrides: str, environment: dict[str, str]) -> "subprocess.Popen[str]":
    chosen = [option for option in OPTIONS if not option.startswith("mix=")]
    script = str(ROOT / "experiments" / "train_classifier.py")
    flags, rest = STUDY[:1], STUDY[1:]
    command = [sys.executable, script, *flags, *chosen, *rest, f"artifacts={artifacts}", *overrides]
    own = environment | {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def job_of(artifacts: Path) -> str:
    """The job whose cell is training, once its phase `retrain` has begun."""
    deadline = time.monotonic() + 900
    while time.monotonic() < deadline:
        for log in artifacts.glob("cells/.*.partial/log"):
            pid = json.loads((log.parent / "running.json").read_text())["pid"]
            words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            known = dict(word.decode().split("=", 1) for word in words if b"=" in word)
            return f"{known['SLURM_ARRAY_JOB_ID']}_{known['SLURM_ARRAY_TASK_ID']}"
        time.sleep(0.05)
    raise AssertionError("no cell was seen training")


def said(artifacts: Path, job: str) -> str:
    return "".join(path.read_text() for path in artifacts.rglob(f"slurm/**/{job}_*log.*"))


def pre_empt(slurm: Slurm, job: str, artifacts: Path) -> None:
    """What SLURM sends before a time limit or a pre-emption, once.

    A scancel that meets the job while it is requeued tries again after seconds; the restarted job, hit before its
    Python listens, would die of it.
    """
    sent = subprocess.Popen(["scancel", "--signal=USR2", job], env=slurm.environment)
    try:
        deadline = time.monotonic() + 120
        while "Caught signal SIGUSR2" not in said(artifacts, job):
            assert time.monotonic() < deadline, said(artifacts, job)
            time.sleep(0.05)
    finally:
        sent.kill()
        sent.wait()


def records(artifacts: Path) -> dict[str, dict]:
    found = {path.parent.name: json.loads(path.read_text()) for path in artifacts.glob("cells/*/record.json")}
    return {name: {k: v for k, v in r.items() if k not in ("cost", "environment")} for name, r in found.items()}


def test_a_study_with_a_job_requeued_equals_the_local_one(slurm: Slurm, copied: Callable[..., Path]) -> None:
    artifacts = copied("cells", "initials")
    jobs = ["hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.timeout_min=60"]
    on_slurm = study(artifacts, *jobs, environment=slurm.environment)
    job = job_of(artifacts)
    pre_empt(slurm, job, artifacts)
    out, _ = on_slurm.communicate(timeout=1800)
    assert on_slurm.returncode == 0, out
    assert re.search(r"Restarts=[1-9]", slurm.ask("scontrol", "show", "job", "-o", job))
    assert "going on from" in said(artifacts, job), said(artifacts, job)
    here = beside(artifacts)
    local = study(here, environment=dict(os.environ))
    out, _ = local.communicate(timeout=1800)
    assert local.returncode == 0, out
    assert len(records(here)) == 6 and records(artifacts) == records(here)


def beside(artifacts: Path) -> Path:
    """Another place for cells that stand on the same generator and bank."""
    here = artifacts.with_name("local")
    here.mkdir()
    for kind in ("gans", "banks", "splits"):
        (here / kind).symlink_to(artifacts / kind)
    return here
