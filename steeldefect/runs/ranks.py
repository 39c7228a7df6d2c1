"""The processes of one distributed run (trainer=ddp), as torchrun starts them: who leads, what is shared, what is summed.

Everything here is neutral in a run of one process. Process 0 is the only one that writes under `artifacts`.
"""

import atexit
import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from steeldefect.runs.errors import UserError, require
from steeldefect.runs.identity import derived_seed

if TYPE_CHECKING:  # the store is used where no torch is installed
    import torch
    from lightning import LightningModule


@dataclass(frozen=True)
class Ranks:
    rank: int = 0
    size: int = 1
    local_size: int = 1


_here = Ranks()


def here() -> Ranks:
    return _here


def start(trainer: Mapping[str, Any]) -> None:
    """Join the other processes under trainer.strategy=ddp; once a process, before anything is written.

    Raises `UserError` where the process was not started by torchrun, or is one of a sweep.
    """
    global _here
    if trainer["strategy"] != "ddp" or _here.size > 1:
        return
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    require(
        TorchElasticEnvironment.detect(),
        "trainer=ddp: start the processes by torchrun: torchrun --nproc-per-node=2 experiments/train_gan.py trainer=ddp ...",
    )
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise UserError(
            "trainer=ddp: one run a command, no sweep (-m): a cell that fails in one process would stop the rest"
        )
    import torch
    from torch import distributed

    from steeldefect.runs.device import accelerator_kind

    on_gpu = accelerator_kind(trainer["accelerator"]) == "gpu"
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # what is said between processes lies in the host's memory, gradients where they are computed
    distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")
    atexit.register(distributed.destroy_process_group)
    _here = Ranks(distributed.get_rank(), distributed.get_world_size(), int(os.environ["LOCAL_WORLD_SIZE"]))
    if _here.rank:
        logging.getLogger().setLevel(logging.ERROR)


def told(text: str) -> str:
    """What process 0 says; every process calls this at the same point."""
    if _here.size == 1:
        return text
    import torch
    from torch import distributed

    content = torch.tensor(list(text.encode()), dtype=torch.uint8)
    length = torch.tensor([len(content)])
    distributed.broadcast(length, 0)
    if _here.rank:
        content = torch.empty(int(length), dtype=torch.uint8)
    if int(length):
        distributed.broadcast(content, 0)
    return bytes(content.tolist()).decode()


def mine(batch: "torch.Tensor") -> "torch.Tensor":
    """This process's share of a global batch `(N, ...)`: every size-th row; one row, of weight 0, where none is left."""
    return batch if _here.size == 1 else batch[min(_here.rank, len(batch) - 1) :: _here.size]


def total_of(module: "LightningModule", own: int) -> int:
    """Rows of the global batch of which `own` are in the hands of this process."""
    return own if _here.size == 1 else int(cast(Any, module.trainer).datamodule.total)


def weight(total: int) -> float:
    """What makes the mean over the processes of means over shares the mean over the `total` rows of a global batch."""
    if _here.size == 1:
        return 1.0
    return len(range(_here.rank, total, _here.size)) * _here.size / total


def averaged(values: "torch.Tensor") -> "torch.Tensor":
    """Mean over the processes, the same in each."""
    if _here.size == 1:
        return values
    from torch import distributed

    distributed.all_reduce(values)
    return values / _here.size


def largest(values: "torch.Tensor") -> "torch.Tensor":
    """Maximum over the processes, the same in each."""
    if _here.size > 1:
        from torch import distributed

        distributed.all_reduce(values, distributed.ReduceOp.MAX)
    return values


def most(number: int) -> int:
    """The largest of all processes; said through the host's memory, so that no device is waited for."""
    if _here.size == 1:
        return number
    import torch

    return int(largest(torch.tensor(number)))


def any_of(flag: bool) -> bool:
    """Whether it is true in any process."""
    return bool(most(int(flag)))


@contextlib.contextmanager
def own_noise(device: "torch.device", *moment: Any) -> Iterator[None]:
    """Inside, each process draws other numbers, a pure function of `moment`; outside, all stay in one state.

    So the state that a checkpoint holds is everybody's, and a dropout mask is not the same in every share.
    """
    if _here.size == 1:
        yield
        return
    import torch

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(derived_seed("rank", _here.rank, *moment))
        yield
