"""How often the report's intervals hold the truth, on synthetic studies: python experiments/simulate_coverage.py"""

import logging
from pathlib import Path

from omegaconf import DictConfig

from steeldefect.runs.verb import verb

log = logging.getLogger(__name__)


@verb("simulate_coverage")
def main(cfg: DictConfig) -> None:
    from steeldefect.report.coverage import write_coverage
    from steeldefect.report.terminal import show

    # the same two scenes are too large for every one of thousands of splits
    logging.getLogger("steeldefect.data.splits").setLevel(logging.ERROR)
    output = Path(cfg.output)
    show(write_coverage(output, cfg.studies, cfg.seed))
    log.info("coverage: %s", output / "README.md")


if __name__ == "__main__":
    main()
