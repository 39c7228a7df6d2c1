"""`hydra/sweeper=grid`: Hydra's basic sweeper, whose cells are composed once for each choice of groups."""

# `from __future__ import annotations` beside a dataclass would keep Hydra from finding this plugin
import copy
from dataclasses import dataclass
from typing import Any, cast

from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException


@dataclass
class GridConf:
    _target_: str = "hydra_plugins.steeldefect_local.sweeper.GridSweeper"
    max_batch_size: int | None = None
    params: dict[str, str] | None = None


ConfigStore.instance().store(group="hydra/sweeper", name="grid", node=GridConf, provider="steeldefect")


class GridSweeper(BasicSweeper):
    """The basic sweeper, which composes every cell twice at a tenth of a second each, without most of that."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        loader = cast(ConfigLoader, Templates(hydra_context.config_loader))
        context = HydraContext(config_loader=loader, callbacks=hydra_context.callbacks)
        super().setup(hydra_context=context, task_function=task_function, config=config)


class Templates:
    """A config loader that composes the first cell of each choice of groups, and makes the others by setting values.

    The result is Hydra's own: values are set after all groups in either case.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        self.loader = loader
        self.groups = set(loader.list_groups(""))
        self.made: dict[tuple[str, ...], DictConfig] = {}

    def __getattr__(self, name: str) -> Any:
        # of an object that is being unpickled (submitit sends its launcher to the job) nothing is there yet
        if name.startswith("__") or name == "loader":
            raise AttributeError(name)
        return getattr(self.loader, name)

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        parsed = OverridesParser.create().parse_overrides(list(sweep_overrides))
        lines = tuple(str(override.input_line) for override in parsed if not self._is_value(override))
        if lines not in self.made:
            self.made[lines] = self.loader.load_sweep_config(master_config, list(lines))
        config = copy.deepcopy(self.made[lines])
        try:
            for override in filter(self._is_value, parsed):
                OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        except OmegaConfBaseException:
            # Hydra knows better what to say
            return self.loader.load_sweep_config(master_config, sweep_overrides)
        config.hydra.overrides.task = [override.input_line for override in parsed if not override.is_hydra_override()]
        named = config.hydra.job.config.override_dirname
        config.hydra.job.override_dirname = get_overrides_dirname(
            overrides=[override for override in parsed if not override.is_hydra_override()],
            exclude_keys=named.exclude_keys,
            item_sep=named.item_sep,
            kv_sep=named.kv_sep,
        )
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        return config

    def _is_value(self, override: Override) -> bool:
        key = override.key_or_group
        plain = override.type == OverrideType.CHANGE and override.package is None and not override.is_hydra_override()
        return plain and "/" not in key and key not in self.groups
