"""`hydra/launcher=local`: each cell of a sweep in a fresh process, so that none takes another down with it."""

# `from __future__ import annotations` beside a dataclass would keep Hydra from finding this plugin
import ctypes
import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus, configure_log, filter_overrides
from hydra.errors import CompactHydraException, HydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from steeldefect.runs.store import unfinished_by
from steeldefect.runs.sweep import HELD, VARIABLE, sweep_size

log = logging.getLogger(__name__)
GRACE = 120.0  # seconds that a cell has to write its checkpoint
POLL = 0.1
VISITS = 10.0  # seconds before a cell that another process makes is looked at again


@dataclass
class LocalConf:
    _target_: str = "hydra_plugins.steeldefect_local.launcher.LocalLauncher"
    n_jobs: int = 1  # cells at a time
    threads: int | None = None  # torch threads a cell; null: OMP_NUM_THREADS, else the cores shared out
    timeout_s: float | None = None  # seconds a cell may take; it is then stopped, and the sweep goes on without it


ConfigStore.instance().store(group="hydra/launcher", name="local", node=LocalConf, provider="steeldefect")


@dataclass
class Cell:
    number: int
    overrides: list[str]
    process: "subprocess.Popen[bytes]"
    started: float
    gpu: str | None = None  # the one of several that is its own
    stopped: float | None = None  # when its time was over


class LocalLauncher(Launcher):
    """Runs the verb again for each cell, as the user would type it; a cell that fails costs itself alone."""

    def __init__(self, n_jobs: int, threads: int | None, timeout_s: float | None) -> None:
        for name, value in (("n_jobs", n_jobs), ("threads", threads), ("timeout_s", timeout_s)):
            if value is not None and value <= 0:
                raise HydraException(f"hydra.launcher.{name}={value}: must be above 0")
        self.n_jobs, self.timeout_s = n_jobs, timeout_s
        shared = os.environ.get("OMP_NUM_THREADS") or max(1, len(os.sched_getaffinity(0)) // n_jobs)
        self.threads = str(threads or shared)
        self.gpus: list[str] = []
        self.config = DictConfig({})
        self.hydra_context: HydraContext | None = None
        self.total = 0

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.hydra_context = config, hydra_context

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        if self.n_jobs > 1 and OmegaConf.select(self.config, "trainer.accelerator") != "cpu":
            self.gpus = visible_gpus()
        waiting = list(enumerate(job_overrides, initial_job_idx))
        self.total = max(sweep_size(self.config), initial_job_idx + len(waiting))
        log.info("Launching %d cells, %d at a time, %s threads each", len(waiting), self.n_jobs, self.threads)
        running: list[Cell] = []
        held: list[tuple[int, Sequence[str]]] = []
        failed: dict[int, str] = {}
        visit = 0.0
        try:
            while waiting or running or held:
                if held and not waiting and not running and time.monotonic() > visit:
                    waiting, held = held, []
                while waiting and len(running) < self.n_jobs:
                    running.append(self._start(*waiting.pop(0), least_used(self.gpus, [cell.gpu for cell in running])))
                time.sleep(POLL)
                for cell in [cell for cell in running if self._over(cell)]:
                    running.remove(cell)
                    if cell.process.returncode == HELD:
                        held.append((cell.number, cell.overrides))
                        visit = time.monotonic() + VISITS
                    elif cell.process.returncode != 0:
                        failed[cell.number] = self._failure(cell)
                        log.error("failed: %s", failed[cell.number])
        except BaseException:
            _stop(running)
            raise
        if failed:
            log.error("%d of %d cells failed:\n%s", len(failed), len(job_overrides), "\n".join(failed.values()))
        summary = f"{len(failed)} of {len(job_overrides)} cells failed, for the reasons above"
        return [
            _returned(list(o), summary if k in failed else "") for k, o in enumerate(job_overrides, initial_job_idx)
        ]

    def _start(self, number: int, overrides: Sequence[str], gpu: str | None) -> Cell:
        assert self.hydra_context is not None
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = str(number), number
        parts = (str(OmegaConf.select(config, f"hydra.sweep.{part}")) for part in ("dir", "subdir"))
        place = str(Path(*parts)).replace("\\", r"\\").replace("'", r"\'")
        sources = self.config.hydra.runtime.config_sources
        folders = [source.path for source in sources if source.provider == "command-line"]
        command = [
            *(sys.executable, str(Path(sys.argv[0]).absolute()), "--config-name", str(config.hydra.job.config_name)),
            *(word for folder in folders for word in ("--config-dir", folder)),
            *self.config.hydra.overrides.hydra,
            *overrides,
            *(f"hydra.run.dir='{place}'", "hydra.mode=RUN"),
        ]
        log.info("\t#%d : %s", number, " ".join(filter_overrides(overrides)))
        own = {"OMP_NUM_THREADS": self.threads, VARIABLE: f"[{number + 1}/{self.total}] "}
        if gpu is not None:
            own["CUDA_VISIBLE_DEVICES"] = gpu
        # a session of its own: ctrl-C reaches the sweep, which then stops its cells one by one
        process = subprocess.Popen(command, env=os.environ | own, start_new_session=True, preexec_fn=_die_with_parent)
        return Cell(number, list(overrides), process, time.monotonic(), gpu)

    def _over(self, cell: Cell) -> bool:
        now = time.monotonic()
        if cell.process.poll() is not None:
            return True
        if cell.stopped is not None and now - cell.stopped > GRACE:
            _kill(cell)
        elif cell.stopped is None and self.timeout_s is not None and now - cell.started > self.timeout_s:
            cell.stopped = now
            cell.process.terminate()
        return False

    def _failure(self, cell: Cell) -> str:
        code = cell.process.returncode
        if cell.stopped is not None:
            reason = f"stopped after hydra.launcher.timeout_s={self.timeout_s:g}; given again, it goes on from there"
        elif code < 0:
            by_kernel = ", by the kernel if memory ran out" if -code == signal.SIGKILL else ""
            reason = f"killed by {signal.Signals(-code).name}{by_kernel}"
        else:
            reason = f"exit code {code}, for the reason that it gave above"
        made = unfinished_by(Path(str(self.config.artifacts)), cell.process.pid)
        identifier = made[0] if made else "nothing begun"
        return (
            f"[{cell.number + 1}/{self.total}] {identifier} ({shlex.join(filter_overrides(cell.overrides))}): {reason}"
        )


def visible_gpus() -> list[str]:
    """As CUDA_VISIBLE_DEVICES names them, or else all that the driver lists; this process starts no CUDA of its own."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=30, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(k) for k, _ in enumerate(line for line in listed.splitlines() if line.startswith("GPU "))]


def least_used(gpus: Sequence[str], taken: Sequence[str | None]) -> str | None:
    """The GPU of the next cell; None where there are not several: the cell then sees what the sweep sees."""
    return min(gpus, key=taken.count) if len(gpus) > 1 else None


def _returned(overrides: list[str], failure: str) -> JobReturn:
    status = JobStatus.FAILED if failure else JobStatus.COMPLETED
    made = JobReturn(overrides=overrides, status=status)
    made.return_value = CompactHydraException(failure) if failure else None
    return made


def _stop(running: list[Cell]) -> None:
    """Let the cells write their checkpoints, all at once; who takes too long is killed."""
    for cell in running:
        cell.process.terminate()
    try:
        for cell in running:
            cell.process.wait(GRACE)
    except subprocess.TimeoutExpired:
        pass
    finally:
        for cell in running:
            if cell.process.poll() is None:
                _kill(cell)


def _kill(cell: Cell) -> None:
    """With all that it has started."""
    os.killpg(cell.process.pid, signal.SIGKILL)


def _die_with_parent() -> Any:
    """A cell without its sweep would hold the lock against the next one: it is asked to stop (prctl, PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
