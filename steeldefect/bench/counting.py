"""What a piece of work asks of a device: floating-point operations and bytes, operation by operation."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import conv_flop_count, flop_registry

aten = torch.ops.aten
KINDS = ("convolution", "transposed", "matmul")
# hand out memory or another name for the same: nothing is read or written
FREE = (aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided, aten._unsafe_view)
FORWARD_TRANSPOSED, BACKWARD_TRANSPOSED, BACKWARD_MASK = 6, 7, 10  # positions in the arguments of a convolution


@dataclass(frozen=True)
class Operation:
    """One kernel: its kind (of KINDS, else `other`), FLOPs (a multiplication and an addition are two), bytes moved."""

    kind: str
    flops: float
    bytes: float


class Counting(TorchDispatchMode):
    """Notes every operation that runs inside; tensors may be on `meta` or fake, then nothing is computed.

    Bytes are each operation's inputs and outputs once: what an eager run, which fuses nothing, cannot avoid. FLOPs are
    `torch.utils.flop_counter`'s formulas, but for the gradients of convolutions: those ignore groups, and charge a
    depthwise layer with its number of channels times too much.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not _is_free(func):
            read = sum(_bytes(leaf) for leaf in tree_leaves((args, kwargs)))
            written = sum(_bytes(leaf) for leaf in tree_leaves(out if func._schema.returns else _mutated(func, args)))
            self.operations.append(Operation(*_flops(func.overloadpacket, args, kwargs or {}, out), read + written))
        return out

    def flops_by_kind(self) -> dict[str, float]:
        found: Counter[str] = Counter()
        for operation in self.operations:
            found[operation.kind] += operation.flops  # type: ignore[assignment]
        return {kind: float(found[kind]) for kind in KINDS}


def counted(call: Callable[[], object]) -> Counting:
    with Counting() as counting:
        call()
    return counting


def _flops(packet: Any, args: Any, kwargs: Any, out: Any) -> tuple[str, float]:
    if packet in (aten.convolution, aten._convolution):
        transposed = bool(args[FORWARD_TRANSPOSED])
        return _kind(transposed), float(_convolution(args[0], args[1], out, transposed))
    if packet == aten.convolution_backward:
        transposed, asked = bool(args[BACKWARD_TRANSPOSED]), sum(args[BACKWARD_MASK][:2])
        # the gradient by the input and the one by the weights take what the forward pass took
        return _kind(transposed), float(asked * _convolution(args[1], args[2], args[0], transposed))
    if packet in flop_registry:
        return "matmul", float(flop_registry[packet](*args, **kwargs, out_val=out))
    return "other", 0.0


def _kind(transposed: bool) -> str:
    return "transposed" if transposed else "convolution"


def _convolution(x: Tensor, weight: Tensor, out: Tensor, transposed: bool) -> int:
    return conv_flop_count(list(x.shape), list(weight.shape), list(out.shape), transposed=transposed)


def _mutated(func: Any, args: Any) -> list[Any]:
    """What an operation without a result writes to (fused optimizers; they change gradients under fp16's scaler alone)."""
    named = zip(func._schema.arguments, args, strict=False)
    written = [(argument.name, value) for argument, value in named if argument.is_write]
    return [value for name, value in written if name != "grads"]


def _is_free(func: Any) -> bool:
    """A view, or what touches no data at all."""
    aliases = [value.alias_info for value in func._schema.returns]
    # prim: what fake tensors ask each other
    if func.namespace == "prim" or func.overloadpacket in FREE:
        return True
    return any(alias is not None and not alias.is_write for alias in aliases)


def _bytes(leaf: Any) -> int:
    """An expanded dimension is one row in memory."""
    if not isinstance(leaf, Tensor):
        return 0
    return prod(n for n, stride in zip(leaf.shape, leaf.stride(), strict=True) if stride) * leaf.element_size()
