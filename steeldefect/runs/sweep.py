"""Where a run stands in its sweep, and what became of the others."""

import logging
import os
import sys
from math import prod
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from steeldefect.runs.environment import COMMAND, command_line

log = logging.getLogger(__name__)
VARIABLE = "STEELDEFECT_SWEEP"


class SweepPosition(Callback):
    """Hydra callback: counts the cells of a multirun at its start, so that each can say `[3/12]`.

    It also looks, before Hydra does, whether logs can be written, and says at the end of a sweep which cells failed.
    """

    def __init__(self) -> None:
        self.total = 0
        self.failed: list[str] = []

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        _writable(str(config.hydra.run.dir))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        _writable(str(config.hydra.sweep.dir))
        self.total = sweep_size(config)
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
            error = str(job_return._return_value).splitlines()[:1]
            self.failed.append(f"[{number + 1}/{self.total}] {' '.join(job_return.overrides or [])}: {''.join(error)}")
        if number + 1 == self.total and self.failed:
            log.error("%d of %d cells failed:\n%s", len(self.failed), self.total, "\n".join(self.failed))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        for name in (VARIABLE, COMMAND):
            os.environ.pop(name, None)


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
