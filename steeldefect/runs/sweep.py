"""Where a run stands in its sweep."""

import os
from math import prod
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

VARIABLE = "STEELDEFECT_SWEEP"


class SweepPosition(Callback):
    """Hydra callback: counts the cells of a multirun at its start, so that each can say `[3/12]`."""

    def __init__(self) -> None:
        self.total = 0

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        self.total = sweep_size(config)

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        number = OmegaConf.select(config, "hydra.job.num")
        if self.total > 1 and number is not None:
            os.environ[VARIABLE] = f"[{number + 1}/{self.total}] "

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        os.environ.pop(VARIABLE, None)


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
