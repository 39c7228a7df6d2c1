"""How a verb is started: Hydra composes the config, a user's error ends in one message and exit code 2."""

import logging
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from steeldefect.runs.errors import Held, UserError
from steeldefect.runs.sweep import put_off

log = logging.getLogger(__name__)


def verb(config_name: str) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Decorate a task `(cfg) -> None` of `experiments/`; its config is `conf/<config_name>.yaml`.

    In a sweep an error is logged when it happens, the other cells go on, and Hydra exits with 1 at the end.
    """

    def decorate(task: Callable[[DictConfig], Any]) -> Callable[[], None]:
        @hydra.main(version_base="1.3", config_path=_conf(), config_name=config_name)
        def main(cfg: DictConfig) -> None:
            sweeping = HydraConfig.get().mode == RunMode.MULTIRUN
            try:
                task(cfg)
            except UserError as error:
                if sweeping and isinstance(error, Held) and put_off(partial(task, cfg)):
                    log.warning("%s. The sweep goes on and comes back to it", error)
                    return
                log.error("%s", error)
                if sweeping or os.environ.get("HYDRA_FULL_ERROR") == "1":
                    raise
                sys.exit(2)

        return main

    return decorate


def _conf() -> str:
    # absolute, since Hydra would look beside this file
    from pathlib import Path

    return str(Path(__file__).resolve().parents[2] / "conf")
