"""One Trainer for both kinds of module: precision, resume, logging, progress."""

import logging
import random
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.profilers import Profiler, PyTorchProfiler, SimpleProfiler
from lightning.pytorch.strategies import DDPStrategy
from torch.nn.parallel import DistributedDataParallel

from steeldefect.runs import ranks
from steeldefect.runs.device import accelerator_kind, available_threads, keep_freed_memory, numerics, torch_device
from steeldefect.runs.errors import nearest, require
from steeldefect.runs.identity import file_sha256
from steeldefect.runs.progress import Progress
from steeldefect.runs.signals import SafePoint

log = logging.getLogger(__name__)
LAST = "last.ckpt"
SUMS = f"{LAST}.sha256"
SCRATCH = (LAST, SUMS, "log")  # what a training leaves in its folder that is no part of the artifact


class LastState(Checkpoint):
    """Everything a run needs to go on bit for bit, at epoch ends, at most every `seconds`; written aside and renamed.

    Lightning keeps weights, optimizers and loops; the states of the random generators are kept here. Its base class
    makes Lightning call it after the module's own end of the epoch. A signal that waits at the `safe_point` is obeyed
    after the batch, with a checkpoint of that moment. Weights that are not finite never replace the last good ones.
    """

    def __init__(self, folder: Path, seconds: float, safe_point: SafePoint) -> None:
        self.path = folder / LAST
        self.seconds = seconds
        self.safe_point = safe_point
        self.begun = self.saved = time.monotonic()
        self.seconds_before = 0.0
        self.random_states: dict[str, Any] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # over Lightning's own handler, which would leave with exit code 0, as if all were done
        self.safe_point.install()
        # before the first batch is fetched: its augmentation draws already
        self._restore_random_states()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # after an epoch's last batch its end is near, and must not be lost
        if not (trainer.is_last_batch or trainer.global_step == trainer.max_steps) and self._told_to_stop():
            self._save(trainer, pl_module)
            self.safe_point.pass_on()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        stop = self._told_to_stop()
        due = time.monotonic() - self.saved >= self.seconds
        # clocks differ, and a checkpoint is written by all processes or by none
        if stop or ranks.any_of(due):
            self._save(trainer, pl_module)
        if stop:
            self.safe_point.pass_on()

    def _told_to_stop(self) -> bool:
        """Whether any of the processes was: a checkpoint is written by all of them together, and all of them end."""
        number = ranks.most(max(self.safe_point.waiting, default=0))
        if number:
            self.safe_point.tell(number)
        return bool(number)

    def _save(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not all(bool(torch.isfinite(weights).all()) for weights in pl_module.parameters()):
            return
        temporary = self.path.with_name(f".{LAST}")
        try:
            trainer.save_checkpoint(temporary)
            if trainer.is_global_zero:
                _put_in_place(temporary, self.path)
        finally:
            # half a checkpoint on a full disk would only keep it full
            temporary.unlink(missing_ok=True)
        self.saved = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        numpy_state: Any = np.random.get_state()
        kind, keys, position, has_gauss, cached = numpy_state
        state: dict[str, Any] = {
            "seconds": self.seconds_before + time.monotonic() - self.begun,
            "torch": torch.get_rng_state(),
            # tensors and plain values only: checkpoints are loaded with weights_only=True
            "numpy": [str(kind), torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(cached)],
            "python": list(_flat(random.getstate())),
        }
        if torch.cuda.is_initialized():  # a training on the CPU leaves a GPU alone
            # the process's own device: under trainer=ddp all are in one state, and process 0 has seen no other's
            state["cuda"] = torch.cuda.get_rng_state()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.random_states = state_dict
        self.seconds_before = state_dict.get("seconds", 0.0)

    def _restore_random_states(self) -> None:
        if self.random_states is None:
            return
        state, self.random_states = self.random_states, None
        torch.set_rng_state(state["torch"])
        kind, keys, position, has_gauss, cached = state["numpy"]
        np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))
        version, *internal, gauss = state["python"]
        random.setstate((version, tuple(internal), gauss))
        if "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"])


def _flat(state: tuple[Any, ...]) -> list[Any]:
    version, internal, gauss = state
    return [version, *internal, gauss]


def _put_in_place(new: Path, path: Path) -> None:
    """Rename a checkpoint over the last one; at every moment `SUMS` holds the checksum of the one that is there."""
    sums = path.with_name(SUMS)
    known = sums.read_text().split()[-1:] if sums.exists() else []
    temporary = sums.with_name(f".{SUMS}")
    temporary.write_text("\n".join([*known, file_sha256(new)]))
    temporary.replace(sums)
    new.replace(path)


def whole_checkpoint(folder: Path) -> Path | None:
    """The checkpoint to go on from, if there is one and it is what was written; a damaged one counts for nothing."""
    path, sums = folder / LAST, folder / SUMS
    if not path.exists():
        return None
    if sums.exists() and file_sha256(path) not in sums.read_text().split():
        log.warning("%s: damaged (its checksum is another); the training starts anew", path)
        path.unlink()
        return None
    return path


def fit(
    module: LightningModule,
    data: LightningDataModule,
    settings: Mapping[str, Any],
    folder: Path,
    precision: str,
    seed: int,
    title: str,
    loggers: list[Logger],
    limits: Mapping[str, int],
    callbacks: list[Callback] | None = None,
) -> float:
    """Train to the end of `limits` (`max_epochs` or `max_steps`), going on from `folder/last.ckpt` where there is one.

    Returns the seconds that earlier processes spent up to that checkpoint.
    """
    quiet()
    options = settings["trainer"]
    torch.set_num_threads(options["threads"] or max(available_threads(None) // ranks.here().local_size, 1))
    numerics(options)
    if accelerator_kind(options["accelerator"]) == "cpu":
        keep_freed_memory()
    seed_everything(seed)
    safe_point = SafePoint()
    state = LastState(folder, options["checkpoint_seconds"], safe_point)
    trainer = Trainer(
        accelerator=accelerator_kind(options["accelerator"]),
        precision=precision,  # type: ignore[arg-type]
        deterministic=options["deterministic"],
        # cuDNN tries its kernels on the one shape that a training has, and may choose another in another run
        benchmark=not options["deterministic"],
        logger=[CSVLogger(folder, name="", version="log"), *loggers],
        callbacks=[state, Progress(title), *(callbacks or [])],
        profiler=_profiler(options["profiler"], Path(settings["artifacts"]) / "logs", title),
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        # the modules log rarely, and what they log is wanted: also at an end that is no multiple of 50 updates
        log_every_n_steps=1,
        **_processes(options, module),
        **limits,  # type: ignore[arg-type]
    )
    leader = Path(ranks.told(str(folder)))
    # process 0 alone looks at it, since it deletes a damaged one
    last = (
        Path(said) if (said := ranks.told("" if ranks.here().rank else str(whole_checkpoint(leader) or ""))) else None
    )
    if last is not None:
        log.info("%s: going on from %s", title, last)
    # with max_steps Lightning takes an epoch that was finished for one in the middle: a run that goes on from its end would
    # have one of a single batch, and whatever looks at the ends of epochs would look once more
    cast(Any, trainer.fit_loop)._iteration_based_training = lambda: False
    with safe_point, _compiled(module, options["compile"]):
        trainer.fit(module, datamodule=data, ckpt_path=last, weights_only=True)
    # Lightning leaves it on the host, where what comes now would take minutes
    module.to(torch_device(options["accelerator"]))
    return state.seconds_before


def save_weights(weights: Mapping[str, Any], path: Path) -> None:
    """A state dict as a file that a machine without this one's device can read."""
    torch.save({name: value.cpu() for name, value in weights.items()}, path)


@contextmanager
def _compiled(module: LightningModule, mode: str | None) -> Iterator[None]:
    """trainer.compile: the networks that train, compiled by torch for the time of the fit; the noise drawn stays the same."""
    if mode is None:
        yield
        return
    from torch._inductor import config as inductor  # half a second that only this needs

    networks = cast(Any, module).trained_networks()
    with inductor.patch(fallback_random=True):
        for network in networks:
            network.compile(mode=mode)
        try:
            yield
        finally:
            for network in networks:
                network._compiled_call_impl = None  # what comes after runs once


def _processes(options: Mapping[str, Any], module: LightningModule) -> dict[str, Any]:
    """The Trainer's arguments on devices and strategy."""
    here = ranks.here()
    if here.size == 1:
        # where a job is requeued, our own checkpoint is the one to go on from, not Lightning's hpc_ckpt_*
        return {"devices": 1, "plugins": [LightningEnvironment()]}
    kind = accelerator_kind(options["accelerator"])
    require(
        not options["sync_batchnorm"] or kind == "gpu",
        "trainer.sync_batchnorm=true: torch synchronizes batch norm on GPUs alone; leave it false on CPUs",
    )
    # a process's own sums, which DDP would overwrite with those of process 0, and frozen features, which it would send
    # at every forward pass (gan=projected)
    names = [name for name, _ in module.named_buffers()]
    own = [name for name in names if name in ("sums", "first_bad") or ".features." in name]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, own)
    return {
        "devices": here.local_size,
        "num_nodes": here.size // here.local_size,
        "plugins": [TorchElasticEnvironment()],
        "sync_batchnorm": options["sync_batchnorm"],
        # under manual optimization each backward pass reaches one of two networks
        "strategy": DDPStrategy(find_unused_parameters=not module.automatic_optimization),
    }


def _profiler(name: str | None, folder: Path, title: str) -> Profiler | None:
    """Lightning's profiler `simple` or `pytorch`, its report in `folder`; None for None."""
    if name is None:
        return None
    kinds = {"simple": SimpleProfiler, "pytorch": PyTorchProfiler}
    require(name in kinds, lambda: f"trainer.profiler={name}: {nearest(name, kinds)}")
    folder.mkdir(parents=True, exist_ok=True)
    return kinds[name](dirpath=folder, filename="profile-" + title.replace(" ", "-"))


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def quiet() -> None:
    """Lightning's hints about devices, loggers and workers say nothing here that the verbs do not say themselves."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    for noise in (".*does not have many workers.*", ".*srun.*", ".*Checkpoint directory.*", ".*weights_only.*"):
        warnings.filterwarnings("ignore", message=noise)
    warnings.filterwarnings("ignore", module="lightning.*")
