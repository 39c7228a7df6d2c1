"""The learning rate of each classifier, from the trials of experiment=choose_lr: python experiments/choose_lr.py"""

import logging
from pathlib import Path

from omegaconf import DictConfig

from steeldefect.runs.verb import verb

log = logging.getLogger(__name__)


@verb("choose_lr")
def main(cfg: DictConfig) -> None:
    from steeldefect.report.collect import folders
    from steeldefect.report.learning_rates import read_trials, write

    chosen = write(read_trials(*folders(cfg.source)), Path(cfg.output))
    for (dataset, split, scale, classifier), lr in chosen.items():
        frozen = cfg.scale.lr[classifier] if scale == cfg.scale.name else None
        told = "" if frozen is None else f"; conf/scale/{scale}.yaml has {frozen:g}"
        log.info("%s, split=%s, scale=%s: %s lr=%g%s", dataset, split, scale, classifier, lr, told)
    log.info("learning rates: %s", Path(cfg.output) / "README.md")


if __name__ == "__main__":
    main()
