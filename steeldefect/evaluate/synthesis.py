"""A bank from a trained generator, filtered or not, and what its images are worth at a glance."""

import logging
from pathlib import Path

import numpy as np
import torch

from steeldefect.classify.judge import load_judge, train_judge
from steeldefect.data.bank import DIVERSITY_IMAGES, diversity, labels_in_turn, write_bank
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
        bar = context.settings["quality"]["collapsed_below"]
        collapsed = [name for name, share in shares.items() if share is not None and share < bar]
        work.summary |= {"diversity": shares, "collapsed": collapsed}
        if collapsed:
            log.warning(
                "the generator has collapsed: spread within a class, as a share of the real images', under %.0f %% in %s",
                100 * bar,
                ", ".join(f"{name} {shares[name]:.0%}" for name in collapsed),
            )
    return digest(identity)


def _draw(context: Context, folder: Path, work: Work) -> None:
    """Into `work`, from the generator in `folder`."""
    identity, classes, gan = context.bank_identity, context.images.classes, context.settings["gan"]
    count, seed, through = identity["count"], identity["seed"], identity.get("seen_through", [])
    generator = _generator(context, folder)
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


def _generator(context: Context, folder: Path) -> torch.nn.Module:
    keep_freed_memory()
    if _device(context).type == "cuda":
        # the same bytes whatever ran before in this process
        numerics(context.settings["trainer"])
    return load_generator(folder, context.settings["gan"], len(context.images.classes)).to(_device(context))


def as_drawn(context: Context, bank: Path, chosen: np.ndarray) -> np.ndarray | None:
    """Images `chosen` (indices) of a bank before flips and shifts, uint8 `(n, S, S)`; None where it has none of these."""
    identity, classes = context.bank_identity, len(context.images.classes)
    if "seen_through" not in identity:
        return None
    numbers = np.load(bank / "latents.npy")[chosen] if "filter" in identity else chosen
    order = np.argsort(numbers)
    generator = _generator(context, context.store.need("gans", context.gan_id, context.command("train_gan")))
    parts = draw_numbers(generator, context.settings["gan"], classes, identity["seed"], numbers[order])
    drawn = np.concatenate(list(parts))
    images = np.empty_like(drawn)
    images[order] = drawn
    return images


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


def _diversity(context: Context, folder: Path) -> dict[str, float | None]:
    """Spread within each class, as drawn, as a share of that of the real training images at the same size.

    None where these have none, such as one image a class.
    """
    classes, real = context.images.classes, context.real
    images, labels = np.load(folder / "images.npy", mmap_mode="r"), np.load(folder / "labels.npy")
    looked_at = np.arange(min(len(labels), DIVERSITY_IMAGES * len(classes)))
    if (drawn := as_drawn(context, folder, looked_at)) is not None:
        images, labels = drawn, labels[looked_at]
    shown = resize(context.images.images[real], images.shape[-1]).numpy()
    of_real = diversity(shown, context.images.labels[real], len(classes))
    pairs = zip(diversity(images, labels, len(classes)), of_real, strict=True)
    return {name: round(own / of, 4) if of else None for name, (own, of) in zip(classes, pairs, strict=True)}
