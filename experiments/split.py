"""Split a data set and say what lies where: python experiments/split.py dataset=neu_cls split=grouped"""

import logging

from omegaconf import DictConfig

from steeldefect.runs.verb import verb

log = logging.getLogger(__name__)


@verb("split")
def main(cfg: DictConfig) -> None:
    from steeldefect.runs.context import prepare

    context = prepare(cfg)
    folder = context.store.folder("splits", context.split_id)
    for key, value in context.store.manifest("splits", context.split_id)["summary"].items():
        log.info("%s: %s", key, value)
    log.info("split %s: %s", context.split_id, folder)


if __name__ == "__main__":
    main()
