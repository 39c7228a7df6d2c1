"""One Trainer for both kinds of module: precision, resume, logging, progress."""

import logging
import random
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.profilers import Profiler, PyTorchProfiler, SimpleProfiler

from steeldefect.runs.device import accelerator_kind, available_threads
from steeldefect.runs.errors import nearest, require
from steeldefect.runs.progress import Progress

log = logging.getLogger(__name__)
LAST = "last.ckpt"


class LastState(Checkpoint):
    """Everything a run needs to go on bit for bit, at epoch ends, at most every `seconds`; written aside and renamed.

    Lightning keeps weights, optimizers and loops; the states of the random generators are kept here. Its base class
    makes Lightning call it after the module's own end of the epoch.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        self.path = folder / LAST
        self.seconds = seconds
        self.saved = time.monotonic()
        self.random_states: dict[str, Any] | None = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if time.monotonic() - self.saved < self.seconds:
            return
        temporary = self.path.with_suffix(".tmp")
        trainer.save_checkpoint(temporary)
        temporary.replace(self.path)
        self.saved = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        numpy_state: Any = np.random.get_state()
        kind, keys, position, has_gauss, cached = numpy_state
        state: dict[str, Any] = {
            "torch": torch.get_rng_state(),
            # tensors and plain values only: checkpoints are loaded with weights_only=True
            "numpy": [str(kind), torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(cached)],
            "python": list(_flat(random.getstate())),
        }
        if torch.cuda.is_available():
            state["cuda"] = torch.cuda.get_rng_state_all()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.random_states = state_dict

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self.random_states is None:
            return
        state, self.random_states = self.random_states, None
        torch.set_rng_state(state["torch"])
        kind, keys, position, has_gauss, cached = state["numpy"]
        np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))
        version, *internal, gauss = state["python"]
        random.setstate((version, tuple(internal), gauss))
        if "cuda" in state:
            torch.cuda.set_rng_state_all(state["cuda"])


def _flat(state: tuple[Any, ...]) -> list[Any]:
    version, internal, gauss = state
    return [version, *internal, gauss]


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
) -> Trainer:
    """Train to the end of `limits` (`max_epochs` or `max_steps`), going on from `folder/last.ckpt` where there is one."""
    quiet()
    options = settings["trainer"]
    torch.set_num_threads(available_threads(options["threads"]))
    torch.set_float32_matmul_precision("high")
    seed_everything(seed)
    trainer = Trainer(
        accelerator=accelerator_kind(options["accelerator"]),
        devices=options["devices"],
        precision=precision,  # type: ignore[arg-type]
        deterministic=options["deterministic"],
        logger=[CSVLogger(folder, name="", version="log"), *loggers],
        callbacks=[LastState(folder, options["checkpoint_seconds"]), Progress(title), *(callbacks or [])],
        # where a job is requeued, our own checkpoint is the one to go on from, not Lightning's hpc_ckpt_*
        plugins=[LightningEnvironment()],
        profiler=_profiler(options["profiler"], Path(settings["artifacts"]) / "logs", title),
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        **limits,  # type: ignore[arg-type]
    )
    last = folder / LAST
    if last.exists():
        log.info("%s: going on from %s", title, last)
    trainer.fit(module, datamodule=data, ckpt_path=last if last.exists() else None, weights_only=True)
    return trainer


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
