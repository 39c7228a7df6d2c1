"""FLOPs, bytes and the least hours of each stage: python experiments/floor.py scale=paper device.tflops=989 device.gbs=4800"""

import logging

from omegaconf import DictConfig

from steeldefect.runs.verb import verb

log = logging.getLogger(__name__)


@verb("floor")
def main(cfg: DictConfig) -> None:
    from steeldefect.bench.costmodel import check_options, floor_table, stage_costs
    from steeldefect.report.terminal import show
    from steeldefect.runs.settings import plain

    settings = plain(cfg)
    check_options(settings)
    show(floor_table(stage_costs(settings), settings))


if __name__ == "__main__":
    main()
