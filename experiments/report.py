"""Tables and figures from records alone: python experiments/report.py source=artifacts output=artifacts/report"""

import logging
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from steeldefect.runs.verb import verb

log = logging.getLogger(__name__)
CONF = Path(__file__).resolve().parents[1] / "conf"


@verb("report")
def main(cfg: DictConfig) -> None:
    from steeldefect.report.collect import collect
    from steeldefect.report.inflation import STUDY, write_inflation
    from steeldefect.report.terminal import show
    from steeldefect.report.write import Grid, declared, write_report

    two, three = (
        OmegaConf.load(CONF / "experiment" / f"{name}.yaml").hydra.sweeper.params for name in ("table2", "table3")
    )
    grid = Grid(
        list(cfg.grid.mixes or declared(two, "mix")),
        list(cfg.grid.classifiers or declared(three, "classifier")),
        declared(three, "mix"),
        cfg.grid.replicates,
    )
    source, output = Path(cfg.source), Path(cfg.output)
    where = OmegaConf.to_container(cfg.where) if cfg.where else None
    if cfg.study == STUDY:
        show(write_inflation(collect(source), output, cfg.grid.replicates, where).rich())
        log.info("report: %s", output / "README.md")
        return
    report = write_report(collect(source), output, grid, Path(cfg.artifacts), cfg.study, where, cfg.figures)
    for table in report.table2 if cfg.study == "table2" else report.table3:
        show(table.rich())
    for line in report.skipped:
        log.warning("left out: %s", line)
    log.info("report: %s", output / "report.md")


if __name__ == "__main__":
    main()
