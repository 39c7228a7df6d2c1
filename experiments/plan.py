"""Cells, cost and state of a study: python experiments/plan.py study=controls sweep.replicate=[0,1,2] dataset=neu_cls"""

import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from steeldefect.runs.verb import verb

if TYPE_CHECKING:
    from steeldefect.report.plan import Planned

log = logging.getLogger(__name__)
CONF = Path(__file__).resolve().parents[1] / "conf"
RESULTS = Path(__file__).parent / "results"


def parts(study: str, chosen: list[str] | None = None) -> list[tuple[str, dict[str, str]]]:
    """The experiments that make up a study, or those chosen of them, each with the grid that it declares."""
    from steeldefect.runs.errors import UserError, nearest

    configs = {path.stem: OmegaConf.load(path) for path in sorted((CONF / "experiment").glob("*.yaml"))}
    found = [(name, config) for name, config in configs.items() if config.study == study]
    if not found:
        raise UserError(f"study={study}: {nearest(str(study), {config.study for config in configs.values()})}")
    names = [name for name, _ in found]
    for name in chosen or ():
        if name not in names:
            raise UserError(f"parts={name}: {nearest(name, names)}")
    found = [(name, config) for name, config in found if not chosen or name in chosen]
    return [(name, {key: str(value) for key, value in config.hydra.sweeper.params.items()}) for name, config in found]


def grid(declared: dict[str, str], given: list[str], instead: dict[str, Any]) -> Iterator[list[str]]:
    """Every combination of the declared grid as overrides, with what the command line gives in its place."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    lines = {key: f"{key}={value}" for key, value in declared.items()}
    lines |= {override.split("=", 1)[0].lstrip("+~"): override for override in given}
    lines |= {key: f"{key}={','.join(map(str, value))}" for key, value in instead.items() if value is not None}
    overrides = OverridesParser.create().parse_overrides(list(lines.values()))
    axes = [
        [f"{o.key_or_group}={value}" for value in o.sweep_string_iterator()]
        if o.is_sweep_override()
        else [str(o.input_line)]
        for o in overrides
    ]
    for combination in itertools.product(*axes):
        yield list(combination)


def planned(cfg: DictConfig) -> "Planned":
    from steeldefect.report.plan import Planned
    from steeldefect.runs.identity import digest
    from steeldefect.runs.prepare import prepare

    context = prepare(cfg)
    settings, stages = context.settings, {}
    if context.bank_id is not None:
        stages = {("gans", context.gan_id): context.gan_identity, ("banks", context.bank_id): context.bank_identity}
    if context.initial_identity is not None:
        stages["initials", digest(context.initial_identity)] = context.initial_identity
    kind = "trials" if settings["evaluate"] == "validation" else "cells"
    stages[kind, digest(context.cell_identity)] = context.cell_identity
    gan = settings["gan"]["name"] if context.bank_id is not None else "none"
    real = settings["real_per_class"]
    arm = (settings["classifier"]["name"], context.mix, gan, settings["augment"], "all" if real is None else str(real))
    schedules = " = ".join(context.schedules)
    arm = (*arm, schedules, f"{settings['optimizer']['lr']:g}")
    updates = None if context.generated is not None else context.gan_updates
    return Planned(arm, settings["replicate"], stages, updates)


@verb("plan")
def main(cfg: DictConfig) -> None:
    from hydra import compose
    from hydra.core.hydra_config import HydraConfig

    from steeldefect.report.collect import collect, folders
    from steeldefect.report.costs import Costs
    from steeldefect.report.plan import Plan
    from steeldefect.report.status import Row, read
    from steeldefect.report.terminal import show

    given = [
        o
        for o in HydraConfig.get().overrides.task
        if not o.startswith(("study=", "parts=", "sweep.", "sweep=", "source="))
    ]
    # what a split warns of is said where it is made
    logging.getLogger("steeldefect.data.splits").setLevel(logging.ERROR)
    cells = [
        planned(compose("train_classifier", [f"experiment={name}", *overrides]))
        for name, declared in parts(cfg.study, cfg.parts)
        for overrides in grid(declared, given, OmegaConf.to_container(cfg.sweep))
    ]
    artifacts = Path(cfg.artifacts)
    elsewhere = collect(*folders(cfg.source)).records if cfg.source else []
    rows = [*read(artifacts), *(Row("cells", record["id"], "done", "") for record in elsewhere)]
    plan = Plan(cells, rows, Costs(artifacts, RESULTS))
    for table in plan.tables():
        show(table)
    print(f"{cfg.study}: {len(cells)} cells, {len({cell.cell for cell in cells})} distinct; {plan.total()}")


if __name__ == "__main__":
    main()
