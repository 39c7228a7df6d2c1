import os
import subprocess
import sys

import pytest
import torch

from steeldefect.runs.device import accelerator_kind, available_threads, cpu_has_bf16, gpu_name, resolve_precision
from steeldefect.runs.environment import alike, machine
from steeldefect.runs.errors import UserError


def test_auto_follows_the_cpu_and_what_was_measured_on_it() -> None:
    assert resolve_precision("auto", "cpu", "32-true") == "32-true"
    assert resolve_precision("auto", "cpu", "bf16-mixed") == ("bf16-mixed" if cpu_has_bf16() else "32-true")


def test_what_is_asked_for_is_taken() -> None:
    assert resolve_precision("32-true", "cpu", "bf16-mixed") == "32-true"
    with pytest.raises(UserError, match="precision=16-mixed: needs a GPU"):
        resolve_precision("16-mixed", "cpu", "32-true")


def test_an_absent_gpu_is_named() -> None:
    if torch.cuda.is_available():
        assert accelerator_kind("auto") == "gpu"
        return
    assert accelerator_kind("auto") == "cpu"
    with pytest.raises(UserError, match=r"trainer\.accelerator=gpu: no CUDA device"):
        accelerator_kind("gpu")
    with pytest.raises(UserError, match=r"trainer\.accelerator=tpu: choices"):
        accelerator_kind("tpu")


KEPT = """
import ctypes, resource, torch
from steeldefect.runs.device import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.zeros(64 * 2**20, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

default = faults()
keep_freed_memory()
faults()
print(default, faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what is set are options of glibc's malloc")
def test_memory_that_was_freed_is_used_again_without_the_kernel() -> None:
    """A tensor of 64 MiB is 16,384 pages, which the kernel maps anew each time unless told otherwise."""
    done = subprocess.run([sys.executable, "-c", KEPT], capture_output=True, text=True, check=True)
    default, kept = map(int, done.stdout.split())
    # with huge pages for all memory there are fewer of them
    assert default > 100 and kept < default / 20


def test_a_gpu_is_part_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu_name("cpu") is None and machine(gpu_name("cpu")) == machine()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    assert gpu_name("cpu") is None
    assert machine(gpu_name("auto")) == f"{machine()}, NVIDIA H200"
    assert not alike(machine(), machine("NVIDIA H200")) and not alike(machine("NVIDIA A100"), machine("NVIDIA H200"))


@pytest.mark.parametrize(("said", "threads"), [("3", 3), ("4,2", 4), ("", None), ("many", None)])
def test_threads_that_openmp_is_told(monkeypatch: pytest.MonkeyPatch, said: str, threads: int | None) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert available_threads(None) == (threads or len(os.sched_getaffinity(0)))
    assert available_threads(7) == 7
