"""Tables and figures from records alone: python experiments/report.py source=artifacts output=artifacts/report"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from steeldefect.runs.errors import nearest, require
from steeldefect.runs.verb import CONF, verb

if TYPE_CHECKING:
    from steeldefect.report.contrasts import Declared

log = logging.getLogger(__name__)


def _experiments() -> list[DictConfig]:
    return [DictConfig(OmegaConf.load(path)) for path in sorted((CONF / "experiment").glob("*.yaml"))]


def _arms(study: str | None) -> dict[str, "Declared"]:
    """The arms of a study by augmentation; Tables 2 and 3 have none."""
    from steeldefect.report.contrasts import Declared
    from steeldefect.report.write import declared

    found: dict[str, Declared] = {}
    for config in _experiments():
        if config.study != study or study in ("table2", "table3"):
            continue
        params = config.hydra.sweeper.params
        for augment in str(params.get("augment") or config.get("augment") or "none").split(","):
            found[augment] = Declared(declared(params, "classifier"), declared(params, "mix"))
    return found


@verb("report")
def main(cfg: DictConfig) -> None:
    from steeldefect.report.arms import TESTED
    from steeldefect.report.collect import collect, folders
    from steeldefect.report.generators import STUDIES, collect_generators, write_generators
    from steeldefect.report.inflation import STUDY, write_inflation
    from steeldefect.report.terminal import show
    from steeldefect.report.write import DIFFERENCES, Grid, declared, write_report

    require(cfg.metric in TESTED, lambda: f"metric={cfg.metric}: {nearest(str(cfg.metric), TESTED)}")
    known = {*STUDIES, STUDY, *(config.study for config in _experiments())}
    require(cfg.study is None or cfg.study in known, lambda: f"study={cfg.study}: {nearest(str(cfg.study), known)}")
    require(cfg.figures in (True, False, DIFFERENCES), lambda: f"figures={cfg.figures}: true, false or {DIFFERENCES}")
    sources, output = folders(cfg.source), Path(cfg.output)
    where = OmegaConf.to_container(cfg.where) if cfg.where else None
    if cfg.study in STUDIES:
        for shown in write_generators(collect_generators(*sources), output, cfg.study, where):
            show(shown)
        log.info("report: %s", output / "README.md")
        return
    two, three = (
        OmegaConf.load(CONF / "experiment" / f"{name}.yaml").hydra.sweeper.params for name in ("table2", "table3")
    )
    grid = Grid(
        table2_mixes=list(cfg.grid.mixes or declared(two, "mix")),
        table3_classifiers=list(cfg.grid.classifiers or declared(three, "classifier")),
        table3_mixes=declared(three, "mix"),
        replicates=cfg.grid.replicates,
        arms=_arms(cfg.study),
        metric=cfg.metric,
    )
    if cfg.study == STUDY:
        # on the images that leak and on those that do not there are accuracies alone
        require(cfg.metric == TESTED[0], f"metric={cfg.metric}: study={STUDY} is of accuracy")
        show(write_inflation(collect(*sources), output, cfg.grid.replicates, where).rich())
        log.info("report: %s", output / "README.md")
        return
    asked = (cfg.study, where, cfg.figures, Path(cfg.costs))
    report = write_report(collect(*sources), output, grid, Path(cfg.artifacts), *asked)
    for table in report.shown(cfg.study):
        show(table.rich())
    for line in report.skipped:
        log.warning("left out: %s", line)
    log.info("report: %s%s", output / "report.md", f" and {output / 'page.html'}" if cfg.figures is True else "")


if __name__ == "__main__":
    main()
