"""Draw a bank of labelled synthetic images: python experiments/synthesize.py dataset=neu_cls gan=edcgan scale=cpu"""

import logging

from omegaconf import DictConfig

from steeldefect.runs.verb import verb

log = logging.getLogger(__name__)


@verb("synthesize")
def main(cfg: DictConfig) -> None:
    from steeldefect.data.bank import export_png, write_bank
    from steeldefect.gan.sampling import draw, load_generator
    from steeldefect.runs.context import prepare
    from steeldefect.runs.identity import digest

    context = prepare(cfg)
    identity, store, classes = context.bank_identity, context.store, context.images.classes
    identifier, gan, count = digest(identity), context.settings["gan"], identity["count"]
    command = context.command("train_gan")
    with store.write("banks", identity) as work:
        if work is not None:
            generator = load_generator(store.need("gans", context.gan_id, command), gan, len(classes))
            chunks = draw(generator, gan, len(classes), identity["seed"], 0, count)
            write_bank(work.folder, chunks, count, classes, gan["image_size"])
            work.summary |= {"images": count, "classes": list(classes)}
    folder = store.folder("banks", identifier)
    log.info("bank %s: %d images, %s", identifier, count, folder)
    if context.settings["bank"]["export"] == "png":
        target = store.root / "exports" / f"bank-{identifier}"
        export_png(folder, target, classes)
        log.info("exported to %s", target)


if __name__ == "__main__":
    main()
