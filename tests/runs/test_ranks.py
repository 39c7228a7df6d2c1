"""One run on two processes: the same as on one."""

import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from steeldefect.runs import ranks
from steeldefect.runs.errors import UserError
from tests.conftest import ROOT
from tests.stages import make

# Off, so that nothing but the order of sums tells two processes from one: a-dropout (each process draws its own masks) and
# batch norm (torch synchronizes it on GPUs alone; small_cnn has none). Batches of 15 leave the processes uneven shares.
FAIR = [
    *(
        "gan.generator.norm=none",
        "gan.discriminator.keep_probability=1",
        "gan.batch_size=15",
        "optimizer.batch_size=15",
    ),
    *("mix=org100", "keep_weights=true", "trainer.checkpoint_seconds=0"),
]


def on_two(folder: Path, **environment: str) -> tuple[list[int], list[str]]:
    """Exit codes and output of two gloo processes that make a generator and a cell; their last states in `folder`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # what torchrun sets
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "test"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    shared |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", **environment}
    command = [sys.executable, "-m", "tests.runs.distributed", str(folder / "artifacts"), str(folder)]
    command += [*FAIR, "trainer=ddp", "trainer.accelerator=cpu", "logger=wandb"]
    processes = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=540)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], said


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    codes, said = on_two(folder)
    assert codes == [0, 0], "\n".join(said)
    return folder


def test_a_signal_to_one_process_stops_both_with_a_checkpoint(tmp_path: Path) -> None:
    codes, said = on_two(tmp_path, TERMINATED="1")
    assert codes == [143, 143], "\n".join(said)
    (checkpoint,) = (tmp_path / "artifacts").glob("gans/.*.partial/last.ckpt")
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 4  # two updates of two networks


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same on one process."""
    folder = tmp_path_factory.mktemp("one") / "artifacts"
    for stage in ("train_gan", "train_classifier"):
        make(stage, folder, *FAIR)
    return folder


def only(artifacts: Path, name: str) -> Path:
    (path,) = artifacts.glob(name)
    return path


@pytest.mark.parametrize("name", ["gans/*/generator.pt", "gans/*/discriminator.pt", "cells/*/weights.pt"])
def test_weights_are_those_of_one_process(one: Path, two: Path, name: str) -> None:
    paths = only(one, name), only(two / "artifacts", name)
    assert paths[0].parent.name == paths[1].parent.name  # the number of processes is no part of an id
    ours, theirs = (torch.load(path, weights_only=True) for path in paths)
    for key, value in ours.items():
        torch.testing.assert_close(theirs[key], value, rtol=1e-4, atol=1e-5)


def test_metrics_are_those_of_one_process(one: Path, two: Path) -> None:
    histories = [
        [[float(x) for x in row] for row in list(csv.reader(only(folder, "gans/*/history.csv").open()))[1:]]
        for folder in (one, two / "artifacts")
    ]
    assert len(histories[0]) == 2
    for ours, theirs in zip(*histories, strict=True):
        assert theirs == pytest.approx(ours, rel=1e-4)
    records = [json.loads(only(folder, "cells/*/record.json").read_text()) for folder in (one, two / "artifacts")]
    assert records[1]["confusion"] == records[0]["confusion"] and records[1]["trained"] == records[0]["trained"]
    assert [", 2 processes" in record["environment"]["machine"] for record in records] == [False, True]


def test_both_processes_end_in_one_state(two: Path) -> None:
    """Generator, discriminator and the average of the generator."""
    states = [torch.load(two / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    assert any(name.startswith("average.") for name in states[0])
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_one_process_writes(two: Path) -> None:
    artifacts = two / "artifacts"
    kinds = {
        kind: len(list(artifacts.glob(f"{kind}/*/manifest.json"))) for kind in ("splits", "gans", "initials", "cells")
    }
    assert kinds == {"splits": 1, "gans": 1, "initials": 1, "cells": 1}
    assert not list(artifacts.glob("*/.*"))
    assert len(list(artifacts.glob("wandb/offline-run-*"))) == 2


@pytest.mark.parametrize(("total", "size"), [(16, 2), (15, 2), (10, 4), (1, 2), (3, 4)])
def test_weighted_means_of_shares_are_the_mean(monkeypatch: pytest.MonkeyPatch, total: int, size: int) -> None:
    batch = torch.randn(total, generator=torch.Generator().manual_seed(0))
    means = []
    for rank in range(size):
        monkeypatch.setattr(ranks, "_here", ranks.Ranks(rank, size, size))
        share = ranks.mine(batch)
        assert len(share) > 0
        means.append(ranks.weight(total) * share.mean())
    assert torch.stack(means).mean() == pytest.approx(float(batch.mean()), abs=1e-6)


def test_noise_is_a_process_own_and_leaves_the_common_state(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, after = [], []
    for rank in range(2):
        monkeypatch.setattr(ranks, "_here", ranks.Ranks(rank, 2, 2))
        torch.manual_seed(0)
        with ranks.own_noise(torch.device("cpu"), "gan", 3):
            drawn.append(torch.rand(4))
        after.append(torch.rand(4))
    assert not torch.equal(*drawn) and torch.equal(*after)


def test_without_torchrun_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with pytest.raises(UserError, match="torchrun --nproc-per-node"):
        ranks.start({"strategy": "ddp", "accelerator": "cpu"})
