"""Draw a bank of labelled synthetic images: python experiments/synthesize.py dataset=neu_cls gan=edcgan scale=cpu"""

import logging

from omegaconf import DictConfig

from steeldefect.runs.verb import verb

log = logging.getLogger(__name__)


@verb("synthesize")
def main(cfg: DictConfig) -> None:
    from steeldefect.data.bank import export_png
    from steeldefect.evaluate.synthesis import synthesize
    from steeldefect.runs.prepare import prepare

    context = prepare(cfg)
    identifier, store = synthesize(context), context.store
    folder = store.folder("banks", identifier)
    log.info("bank %s: %d images, %s", identifier, context.bank_identity["count"], folder)
    if context.settings["bank"]["export"] == "png":
        target = store.root / "exports" / f"bank-{identifier}"
        export_png(folder, target, context.images.classes)
        log.info("exported to %s", target)


if __name__ == "__main__":
    main()
