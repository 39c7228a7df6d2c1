"""Which device and precision a run gets, resolved before it is named."""

import ctypes
import functools
import os
from collections.abc import Mapping
from typing import Any

import torch

from steeldefect.runs.errors import UserError


def accelerator_kind(accelerator: str) -> str:
    """`gpu` or `cpu` for trainer.accelerator=auto|cpu|gpu."""
    if accelerator == "auto":
        return "gpu" if torch.cuda.is_available() else "cpu"
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise UserError("trainer.accelerator=gpu: no CUDA device is visible; use trainer=cpu or trainer=auto")
    if accelerator not in ("cpu", "gpu"):
        raise UserError(f"trainer.accelerator={accelerator}: choices: auto, cpu, gpu")
    return accelerator


def torch_device(accelerator: str) -> torch.device:
    """Where trainer.accelerator=auto|cpu|gpu computes, for what is done outside a Trainer."""
    return torch.device("cuda" if accelerator_kind(accelerator) == "gpu" else "cpu")


def gpu_name(accelerator: str) -> str | None:
    """`NVIDIA H200`; None where trainer.accelerator=auto|cpu|gpu computes on the CPU."""
    return torch.cuda.get_device_name() if accelerator_kind(accelerator) == "gpu" else None


def numerics(trainer: Mapping[str, Any]) -> None:
    """How this process computes from here on: what a Trainer sets for itself, also for what runs outside one."""
    torch.set_float32_matmul_precision("high")
    torch.use_deterministic_algorithms(trainer["deterministic"])
    # else torch writes every new tensor full, so that one which is read before it is written shows
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def resolve_precision(precision: str, accelerator: str, on_cpu: str) -> str:
    """`auto`: bf16-mixed (else 16-mixed) on a GPU, `on_cpu` where the CPU computes bf16 natively, else 32-true."""
    kind = accelerator_kind(accelerator)
    if precision == "16-mixed" and kind == "cpu":
        raise UserError("precision=16-mixed: needs a GPU; on a CPU use bf16-mixed or 32-true")
    if precision != "auto":
        return precision
    if kind == "gpu":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return on_cpu if cpu_has_bf16() else "32-true"


@functools.cache
def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bf16 natively; without it, autocast is slower than float32."""
    capabilities = torch.backends.cpu.get_cpu_capability()
    return capabilities.startswith("AVX512") and torch.cpu._is_avx512_bf16_supported()


def available_threads(threads: int | None) -> int:
    # a list gives the number of each level of nested regions, the first of which is meant
    said = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return threads or (int(said) if said.isdecimal() else 0) or len(os.sched_getaffinity(0))


# of glibc's malloc.h: how much stays free at the heap's end, how much is asked for at a time, how much is mapped apart
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> None:
    """Have the process keep the memory that it frees, for the rest of its life; nothing where glibc is not.

    By default glibc gives every large tensor back to the kernel, which maps and clears it anew at the next step: a
    tenth to a sixth of an EDCGAN step on a CPU. The peak stays within a tenth of what it was.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 2**26)):
            mallopt(option, value)
