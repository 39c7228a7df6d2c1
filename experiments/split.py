"""Split a data set and say what lies where: python experiments/split.py dataset=neu_cls split=grouped"""

import logging

from omegaconf import DictConfig

from steeldefect.runs.verb import verb

log = logging.getLogger(__name__)


@verb("split")
def main(cfg: DictConfig) -> None:
    from steeldefect.data.generated import export_training
    from steeldefect.runs.errors import require
    from steeldefect.runs.prepare import prepare

    require(cfg.export in (None, "png"), f"export={cfg.export}: null or png")
    context = prepare(cfg)
    folder = context.store.folder("splits", context.split_id)
    for key, value in context.store.manifest("splits", context.split_id)["summary"].items():
        log.info("%s: %s", key, value)
    log.info("split %s: %s", context.split_id, folder)
    if cfg.export == "png":
        k = context.settings["real_per_class"]
        target = context.store.root / "exports" / f"training-{context.split_id}{'' if k is None else f'-{k}'}"
        export_training(context.images, context.real, context.split_note, target)
        log.info("%d training images: %s", len(context.real), target)


if __name__ == "__main__":
    main()
