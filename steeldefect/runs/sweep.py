"""Where a run stands in its sweep, what it puts off to the sweep's end, and what became of the others."""

import logging
import os
import sys
import time
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from steeldefect.runs.environment import COMMAND, command_line
from steeldefect.runs.errors import Held, UserError

log = logging.getLogger(__name__)
VARIABLE = "STEELDEFECT_SWEEP"
SECONDS_BETWEEN_VISITS = 10.0

_home: list[int] = []  # the process that runs a sweep cell by cell
HELD = 75  # exit code of a cell of a sweep that another process is making (EX_TEMPFAIL)
_put_off: list[Callable[[], None]] = []


class CellFailed(UserError, CompactHydraException):
    """A user's error in a cell of a sweep: Hydra ends with its message, where it would show a traceback of any other."""


class SweepPosition(Callback):
    """Hydra callback: counts the cells of a multirun at its start, so that each can say `[3/12]`.

    After the last one it comes back to those that another process was making, and says which cells failed. It also
    looks, before Hydra does, whether logs can be written.
    """

    def __init__(self) -> None:
        self.total = 0
        self.failed: list[str] = []

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        _writable(str(config.hydra.run.dir))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        _writable(str(config.hydra.sweep.dir))
        self.total = sweep_size(config)
        _home[:] = [os.getpid()]
        # a launcher's own processes have another command line
        os.environ[COMMAND] = command_line()

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        number = OmegaConf.select(config, "hydra.job.num")
        if self.total > 1 and number is not None:
            os.environ[VARIABLE] = f"[{number + 1}/{self.total}] "

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        number = OmegaConf.select(config, "hydra.job.num")
        if number is None:
            return
        if job_return.status == JobStatus.FAILED:
            reason = "".join(str(job_return._return_value).splitlines()[:1])
            self.failed.append(f"[{number + 1}/{self.total}] {' '.join(job_return.overrides or [])}: {reason}")
        if number + 1 < self.total:
            return
        error = come_back()
        if error is not None:
            self.failed.append(str(error).splitlines()[0])
            if job_return.status == JobStatus.COMPLETED:
                told = CellFailed(str(error)) if isinstance(error, UserError) else error
                job_return.status, job_return.return_value = JobStatus.FAILED, told
        if self.failed:
            log.error("%d of %d cells failed:\n%s", len(self.failed), self.total, "\n".join(self.failed))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        for name in (VARIABLE, COMMAND):
            os.environ.pop(name, None)
        _home.clear()


def put_off(task: Callable[[], None]) -> bool:
    """Leave a cell that another process holds for the end of the sweep.

    False where no sweep runs in this process (a single cell, or a launcher with a process a cell): nobody would come
    back to it.
    """
    if _home != [os.getpid()]:
        return False
    hydra_config, where = HydraConfig.instance().cfg, position()

    def again() -> None:
        HydraConfig.instance().cfg, os.environ[VARIABLE] = hydra_config, where
        task()

    _put_off.append(again)
    return True


def come_back() -> Exception | None:
    """Do what was put off: a cell that is finished by now is skipped, one whose maker has died is taken over.

    Waits while others are still at work; returns the first error.
    """
    error: Exception | None = None
    said: set[str] = set()
    while _put_off:
        for task in list(_put_off):
            try:
                task()
            except Held as held:
                if str(held) not in said:
                    log.info("waiting: %s", held)
                    said.add(str(held))
                continue
            except Exception as other:
                log.error("%s", other)
                error = error or other
            _put_off.remove(task)
        if _put_off:
            time.sleep(SECONDS_BETWEEN_VISITS)
    return error


def _writable(folder: str) -> None:
    """Leave with one message where Hydra would end in a traceback: it writes its log there first of all."""
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(path, os.W_OK) else "not writable"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason and path != Path():
        # logging is not set up yet
        print(f"{path}: cannot be written ({reason}); set artifacts=DIR to a folder that can", file=sys.stderr)
        sys.exit(2)


def position() -> str:
    return os.environ.get(VARIABLE, "")


def sweep_size(config: DictConfig) -> int:
    """Cells of a multirun: the declared grid, with what the command line sets in its place."""
    grid: dict[str, str] = {}
    params = OmegaConf.select(config, "hydra.sweeper.params")
    if params:
        grid.update({key: f"{key}={value}" for key, value in params.items()})
    for override in config.hydra.overrides.task:
        grid[override.split("=", 1)[0].lstrip("+~")] = override
    parsed = OverridesParser.create().parse_overrides(list(grid.values()))
    return prod(len(list(item.sweep_iterator())) for item in parsed if item.is_sweep_override())
