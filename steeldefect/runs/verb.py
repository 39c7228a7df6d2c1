"""How a verb is started: Hydra composes the config, a user's error ends in one message and exit code 2."""

import functools
import gc
import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from steeldefect.runs.errors import Held, UserError, explained
from steeldefect.runs.settings import CONF
from steeldefect.runs.signals import Interrupted, stoppable
from steeldefect.runs.sweep import HELD, CellFailed, position, put_off

log = logging.getLogger(__name__)


def verb(config_name: str, conf: Path = CONF) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Decorate a task `(cfg) -> None` of `experiments/`; its config is `<conf>/<config_name>.yaml`.

    In a sweep an error is logged when it happens, the other cells go on, and Hydra exits with 1 at the end. A signal
    that asks to stop ends the whole sweep with 128 + its number, after a checkpoint. `--info` alone lists the choices; a
    misspelt key, group or choice is answered with the nearest one.
    """

    def decorate(task: Callable[[DictConfig], Any]) -> Callable[[], None]:
        # absolute, since Hydra would look beside this file
        @hydra.main(version_base="1.3", config_path=str(conf), config_name=config_name)
        def run(cfg: DictConfig) -> None:
            # once more, for cells that a launcher runs in processes of their own
            with stoppable():
                _run(task, cfg)

        @functools.wraps(task)
        def main() -> None:
            from steeldefect.runs.choices import hint, quoted, show_choices

            # what --help begins with
            script = sys.modules[task.__module__]
            OmegaConf.register_new_resolver("verb_docstring", lambda: script.__doc__, replace=True)
            # read by cuBLAS once, at its first product, which may come before a Trainer asks for determinism
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            sys.argv[1:] = [quoted(argument) for argument in sys.argv[1:]]
            if sys.argv[1:] in (["--info"], ["-i"]):
                show_choices(conf, config_name)
                return
            try:
                with stoppable():
                    run()
            except Interrupted as stop:
                log.warning("stopped by %s; the same command again goes on from here", stop.signal)
                raise
            except SystemExit as stop:
                # Hydra has shown its own message; what it raised is the context of its exit
                said = hint(stop.__context__)
                if said:
                    print(said, file=sys.stderr)
                raise

        return main

    return decorate


def _run(task: Callable[[DictConfig], Any], cfg: DictConfig) -> None:
    sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    try:
        task(cfg)
    except Exception as error:
        if sweep and isinstance(error, Held) and put_off(functools.partial(task, cfg)):
            log.warning("%s. The sweep goes on and comes back to it", error)
            return
        known = error if isinstance(error, UserError) else explained(error, cfg.get("artifacts"), cfg.get("output"))
        if known is None:
            # a sweep would show it at its very end alone
            if sweep:
                log.error("%s: %s", type(error).__name__, error)
            raise
        log.error("%s", known)
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise known from error
        if sweep:
            # Hydra keeps it to the sweep's end, and its frames would keep the cell's images and maps
            traceback.clear_frames(error.__traceback__)
            raise CellFailed(str(known)) from error
        # a sweep with a process a cell comes back to it
        sys.exit(HELD if isinstance(error, Held) and position() else 2)
    finally:
        if sweep:
            _leave_gpu()


def _leave_gpu() -> None:
    """Give back what a cell held of a GPU: Trainer and module know each other, so that it would wait for the collector."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()
