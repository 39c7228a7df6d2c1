"""A bank from a trained generator, filtered or not, and what its images are worth at a glance."""

import logging
from pathlib import Path

import numpy as np
import torch

from steeldefect.classify.judge import load_judge, train_judge
from steeldefect.data.bank import diversity, labels_in_turn, write_bank
from steeldefect.data.generated import at_size, in_turns
from steeldefect.data.resize import resize
from steeldefect.gan.filtering import Plausibility, candidates, logits, most_plausible
from steeldefect.gan.sampling import draw, draw_numbers, load_discriminator, load_generator
from steeldefect.runs.context import Context
from steeldefect.runs.device import keep_freed_memory, numerics, torch_device
from steeldefect.runs.identity import digest
from steeldefect.runs.store import Work

log = logging.getLogger(__name__)


def synthesize(context: Context) -> str:
    """The id of the bank, drawn (with `gan=folder`: read) if it is not there yet.

    A filtered one (`bank.filter`) holds `latents.npy` too, the number of the latent of each image, with which
    `gan.sampling.draw` gives the image alone.
    """
    identity, store, classes = context.bank_identity, context.store, context.images.classes
    folder = store.need("gans", context.gan_id, context.command("train_gan"))
    with store.write("banks", identity) as work:
        if work is None:
            return digest(identity)
        if context.generated is None:
            _draw(context, folder, work)
        else:
            order = in_turns(context.generated.labels)
            size = context.settings["gan"]["image_size"]
            chunks = at_size(context.generated, order, size)
            write_bank(work.folder, chunks, context.generated.labels[order], classes, size)
        work.summary |= {"images": identity["count"], "classes": list(classes)}
        shares = _diversity(context, work.folder)
        collapsed = [name for name, share in shares.items() if share < context.settings["quality"]["collapsed_below"]]
        work.summary |= {"diversity": shares, "collapsed": collapsed}
        if collapsed:
            log.warning(
                "the generator has collapsed: spread within a class, as a share of the real images', under %.0f %% in %s",
                100 * context.settings["quality"]["collapsed_below"],
                ", ".join(f"{name} {shares[name]:.0%}" for name in collapsed),
            )
    return digest(identity)


def _draw(context: Context, folder: Path, work: Work) -> None:
    """Into `work`, from the generator in `folder`."""
    identity, classes, gan = context.bank_identity, context.images.classes, context.settings["gan"]
    count, seed, through = identity["count"], identity["seed"], identity.get("seen_through", [])
    keep_freed_memory()
    if _device(context).type == "cuda":
        # the same bytes whatever ran before in this process
        numerics(context.settings["trainer"])
    generator = load_generator(folder, gan, len(classes)).to(_device(context))
    if "filter" not in identity:
        chunks, places = draw(generator, gan, len(classes), seed, 0, count, through), None
    else:
        drawn = candidates(count, len(classes), identity["filter"]["keep"])
        every = draw(generator, gan, len(classes), seed, 0, drawn, through)
        kept = most_plausible(every, count, len(classes), _plausibility(context, folder))
        np.save(work.folder / "latents.npy", kept)
        places = np.argsort(kept)
        # drawn a second time: all candidates at once may be more than memory holds
        chunks = draw_numbers(generator, gan, len(classes), seed, kept[places], through)
        work.summary["drawn"] = drawn
    write_bank(work.folder, chunks, labels_in_turn(count, len(classes)), classes, gan["image_size"], places)


def _device(context: Context) -> torch.device:
    return torch_device(context.settings["trainer"]["accelerator"])


def _plausibility(context: Context, folder: Path) -> Plausibility:
    """What `bank.filter` names: the GAN's own discriminator, or a classifier trained on the real training images."""
    if context.settings["bank"]["filter"] == "discriminator":
        discriminator = load_discriminator(folder, context.settings["gan"], len(context.images.classes))
        discriminator.to(_device(context))
        return lambda images, labels: logits(discriminator, images, labels)
    identity = context.judge_identity("filter")
    train_judge(context, identity, context.images.images[context.real], context.images.labels[context.real])
    judge = load_judge(context, identity)

    def log_probability(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        found = judge(images)
        return np.asarray(found[np.arange(len(labels)), labels] - np.logaddexp.reduce(found, axis=1))

    return log_probability


def _diversity(context: Context, folder: Path) -> dict[str, float]:
    """Spread within each class as a share of that of the real training images at the same size."""
    classes, real = context.images.classes, context.real
    images, labels = np.load(folder / "images.npy", mmap_mode="r"), np.load(folder / "labels.npy")
    shown = resize(context.images.images[real], images.shape[-1]).numpy()
    of_real = diversity(shown, context.images.labels[real], len(classes))
    shares = np.divide(diversity(images, labels, len(classes)), np.maximum(of_real, 1e-9)).round(4).tolist()
    return dict(zip(classes, shares, strict=True))
