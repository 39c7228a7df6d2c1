"""What is done, running, failed or dead: python experiments/status.py"""

from pathlib import Path

from omegaconf import DictConfig

from steeldefect.runs.verb import verb


@verb("status")
def main(cfg: DictConfig) -> None:
    from steeldefect.report.status import read, tables
    from steeldefect.report.terminal import show

    for table in tables(read(Path(cfg.artifacts))):
        show(table)


if __name__ == "__main__":
    main()
