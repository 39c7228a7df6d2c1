"""Draw a bank of labelled synthetic images: python experiments/synthesize.py dataset=neu_cls gan=edcgan scale=cpu"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from omegaconf import DictConfig

from steeldefect.runs.verb import verb

if TYPE_CHECKING:
    from steeldefect.runs.context import Context

log = logging.getLogger(__name__)

COLLAPSED = 0.25  # of the real images' spread: below it a class is named in the log


def compare_diversity(context: "Context", folder: Path) -> dict[str, float]:
    """Spread within each class as a share of that of the real training images at the same size; says what collapsed."""
    from steeldefect.data.bank import diversity
    from steeldefect.data.datamodule import resize

    classes, real = context.images.classes, context.real
    images, labels = np.load(folder / "images.npy", mmap_mode="r"), np.load(folder / "labels.npy")
    shown = resize(context.images.images[real], images.shape[-1]).numpy()
    of_real = diversity(shown, context.images.labels[real], len(classes))
    shares = np.divide(diversity(images, labels, len(classes)), np.maximum(of_real, 1e-9)).round(4).tolist()
    collapsed = [f"{name} {share:.0%}" for name, share in zip(classes, shares, strict=True) if share < COLLAPSED]
    if collapsed:
        log.warning(
            "the generator has collapsed: spread within a class, as a share of the real images', under %.0f %% in %s",
            *(100 * COLLAPSED, ", ".join(collapsed)),
        )
    return dict(zip(classes, shares, strict=True))


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
            work.summary["diversity"] = compare_diversity(context, work.folder)
    folder = store.folder("banks", identifier)
    log.info("bank %s: %d images, %s", identifier, count, folder)
    if context.settings["bank"]["export"] == "png":
        target = store.root / "exports" / f"bank-{identifier}"
        export_png(folder, target, classes)
        log.info("exported to %s", target)


if __name__ == "__main__":
    main()
