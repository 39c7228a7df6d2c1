"""The machine's roof: what its best kernels reach on the shapes of these networks, against which a step is judged."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from steeldefect.bench.counting import KINDS, counted
from steeldefect.bench.timing import Row, timed

DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
Roof = dict[tuple[str, str], float]  # FLOP/s by kind and number format


def measure_roof(options: Mapping[str, Any], device: torch.device, formats: Iterable[str] = tuple(DTYPES)) -> Roof:
    """Best of `tries` for each of KINDS in each of `formats` (of DTYPES); convolutions forward and backward, channels last.

    `options`: batch, maps (pixels a side), channels, matmul (rows), tries.
    """
    works = {"convolution": partial(_convolution, F.conv2d), "transposed": partial(_convolution, F.conv_transpose2d)}
    found: Roof = {}
    for kind in KINDS:
        for name in formats:
            work = works.get(kind, _matmul)(options, DTYPES[name], device)
            flops = sum(counted(work).flops_by_kind().values())
            # as many in a row as fill a fifth of a second: a GPU is done with one before the next is launched
            side = timed(work, max(1, round(0.2 / timed(work, 1, device)())), device)
            found[kind, name] = flops / min(side() for _ in range(options["tries"]))
    return found


def _convolution(
    apply: Callable[..., Tensor], options: Mapping[str, Any], dtype: torch.dtype, device: torch.device
) -> Callable[[], object]:
    n, side = options["channels"], options["maps"]
    make = partial(torch.randn, dtype=dtype, device=device)
    layout = {"memory_format": torch.channels_last}
    x = make(options["batch"], n, side, side).contiguous(**layout).requires_grad_()
    weight = make(n, n, 3, 3).contiguous(**layout).requires_grad_()
    grad = make(options["batch"], n, side, side).contiguous(**layout)
    return lambda: torch.autograd.grad(apply(x, weight, padding=1), [x, weight], grad)


def _matmul(options: Mapping[str, Any], dtype: torch.dtype, device: torch.device) -> Callable[[], object]:
    a, b = (torch.randn(options["matmul"], options["matmul"], dtype=dtype, device=device) for _ in range(2))
    return lambda: a @ b


def roof_rows(roof: Roof) -> list[Row]:
    return [Row(f"roof_{kind}_{name}", value / 1e9, None, "GFLOP/s", None) for (kind, name), value in roof.items()]


def at_the_roof(flops: Mapping[str, float], roof: Roof, precision: str) -> float:
    """Seconds that a step of `flops` by kind would take at the roof: the mix of kinds, weighted by its FLOPs."""
    name = "float32" if precision == "32-true" else "bf16"
    return sum(flops[kind] / roof[kind, name] for kind in KINDS)
