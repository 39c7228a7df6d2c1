"""What a training step must not do, watched operation by operation."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
# each needs a value on the host to go on: on a GPU that waits for everything before it
READS = (
    *(aten._local_scalar_dense, aten.item, aten.equal, aten.is_nonzero, aten.nonzero, aten.masked_select),
    *(aten._unique2, aten.unique_dim, aten.unique_consecutive),
)
# torch raises at these on CUDA under trainer.deterministic=true, so no CPU would find out; bilinear interpolation is not
# among them, as F.interpolate takes another way there
REFUSED = (
    *(aten.reflection_pad1d_backward, aten.reflection_pad2d_backward, aten._adaptive_avg_pool2d_backward),
    *(aten.adaptive_max_pool2d_backward, aten.fractional_max_pool2d_backward, aten.avg_pool3d_backward),
    *(aten.grid_sampler_2d_backward, aten._upsample_bilinear2d_aa_backward, aten.upsample_linear1d_backward),
    *(
        aten.upsample_bicubic2d_backward,
        aten._upsample_bicubic2d_aa_backward,
        aten.max_unpool2d,
        aten.nll_loss2d_forward,
    ),
    *(aten.histc, aten.kthvalue, aten.put, aten.put_),
)


class HotPath(TorchDispatchMode):
    """Fails at a value read on the host, a tensor that changes its device, float64, and what CUDA refuses; counts what ran."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.overloadpacket not in READS, func
        assert func.overloadpacket not in REFUSED, f"{func} is not deterministic on CUDA"
        out = func(*args, **(kwargs or {}))
        given, made = (
            [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)] for tree in ((args, kwargs), out)
        )
        if func.overloadpacket in (aten.index, aten.index_put, aten.index_put_):
            # a mask is turned into indices inside the kernel
            assert not any(leaf.dtype in (torch.bool, torch.uint8) for leaf in tree_leaves(args[1])), func
        # a scalar of the host may enter a kernel as an argument
        assert len({leaf.device for leaf in (*given, *made) if leaf.dim()}) <= 1, f"{func} crosses devices"
        assert not any(leaf.dtype == torch.float64 for leaf in made), f"{func} computes in float64"
        self.count += 1
        return out


def watched(call: Callable[[], object]) -> int:
    """Operations of `call`, none of which may do what HotPath forbids."""
    with HotPath() as mode:
        call()
    return mode.count
