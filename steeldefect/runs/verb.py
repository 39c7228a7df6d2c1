"""How a verb is started: Hydra composes the config, a user's error ends in one message and exit code 2."""

import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from steeldefect.runs.errors import UserError

log = logging.getLogger(__name__)


def verb(config_name: str) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Decorate a task `(cfg) -> None` of `experiments/`; its config is `conf/<config_name>.yaml`.

    In a sweep an error is logged when it happens, the other cells go on, and Hydra exits with 1 at the end.
    """

    def decorate(task: Callable[[DictConfig], Any]) -> Callable[[], None]:
        @hydra.main(version_base="1.3", config_path=_conf(), config_name=config_name)
        def main(cfg: DictConfig) -> None:
            try:
                task(cfg)
            except UserError as error:
                log.error("%s", error)
                if HydraConfig.get().mode == RunMode.MULTIRUN or os.environ.get("HYDRA_FULL_ERROR") == "1":
                    raise
                sys.exit(2)

        return main

    return decorate


def _conf() -> str:
    # absolute, since Hydra would look beside this file
    from pathlib import Path

    return str(Path(__file__).resolve().parents[2] / "conf")
