"""Where the time of a step goes, by kind of operator, as torch's profiler sees it."""

import contextlib
import io
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile

from steeldefect.bench.timing import Row, now

# the first whose name an operator begins with has its time; what no name fits is `rest`
KINDS_OF_OPERATOR = {
    "convolution_backward": ("aten::convolution_backward",),
    "convolution": ("aten::mkldnn_convolution", "aten::_convolution", "aten::cudnn_convolution", "aten::convolution"),
    "activation": (
        "aten::elu",
        "aten::relu",
        "aten::clamp_min",
        "aten::threshold",
        "aten::leaky_relu",
        "aten::hardtanh",
    ),
    "norm": ("aten::native_batch_norm", "aten::cudnn_batch_norm"),
    "matmul": ("aten::mm", "aten::addmm", "aten::bmm"),
    "optimizer": ("aten::_fused_", "Optimizer.", "aten::lerp", "aten::_foreach_lerp"),
    "copies": ("aten::copy_", "aten::cat"),
    "dropout": ("aten::addcmul", "aten::bernoulli"),
}


def kind_of(operator: str) -> str:
    return next((kind for kind, names in KINDS_OF_OPERATOR.items() if operator.startswith(names)), "rest")


def profile_rows(name: str, step: Callable[[], object], steps: int, device: torch.device) -> list[Row]:
    """`profile_<name>_<kind>`: the share of a step's time that operators of that kind take themselves."""
    step()
    on_gpu = device.type == "cuda"
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with contextlib.redirect_stderr(io.StringIO()), profile(activities=kinds) as seen:
        for _ in range(steps):
            step()
        now(device)
    taken: dict[str, float] = dict.fromkeys([*KINDS_OF_OPERATOR, "rest"], 0.0)
    events: Any = seen.key_averages()
    for event in events:
        # an operator's device time holds that of its kernels, which are events of their own as well
        if event.device_type != DeviceType.CPU:
            continue
        taken[kind_of(event.key)] += event.self_device_time_total if on_gpu else event.self_cpu_time_total
    whole = sum(taken.values())
    ordered = sorted(taken.items(), key=lambda item: -item[1])
    return [Row(f"profile_{name}_{kind}", 100 * time / whole, None, "%", None) for kind, time in ordered if time]
