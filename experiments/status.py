"""What is done, running, failed or dead, and the time left of what is begun: python experiments/status.py"""

from pathlib import Path

from omegaconf import DictConfig

from steeldefect.runs.verb import verb

RESULTS = Path(__file__).parent / "results"


@verb("status")
def main(cfg: DictConfig) -> None:
    from steeldefect.report.costs import Costs
    from steeldefect.report.status import read, tables
    from steeldefect.report.terminal import show

    artifacts = Path(cfg.artifacts)
    for table in tables(read(artifacts), Costs(artifacts, RESULTS)):
        show(table)


if __name__ == "__main__":
    main()
