"""How a verb is started: Hydra composes the config, a user's error ends in one message and exit code 2."""

import logging
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from steeldefect.runs.errors import Held, UserError
from steeldefect.runs.sweep import put_off

log = logging.getLogger(__name__)
CONF = Path(__file__).resolve().parents[2] / "conf"


def verb(config_name: str, conf: Path = CONF) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Decorate a task `(cfg) -> None` of `experiments/`; its config is `<conf>/<config_name>.yaml`.

    In a sweep an error is logged when it happens, the other cells go on, and Hydra exits with 1 at the end. `--info`
    alone lists the choices; a misspelt key, group or choice is answered with the nearest one.
    """

    def decorate(task: Callable[[DictConfig], Any]) -> Callable[[], None]:
        # absolute, since Hydra would look beside this file
        @hydra.main(version_base="1.3", config_path=str(conf), config_name=config_name)
        def run(cfg: DictConfig) -> None:
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

        def main() -> None:
            from steeldefect.runs.choices import hint, show_choices

            if sys.argv[1:] in (["--info"], ["-i"]):
                show_choices(conf, config_name)
                return
            try:
                run()
            except SystemExit as stop:
                # Hydra has shown its own message; what it raised is the context of its exit
                said = hint(stop.__context__)
                if said:
                    print(said, file=sys.stderr)
                raise

        return main

    return decorate
