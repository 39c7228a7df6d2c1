"""The training images of each phase of a cell: the originals, and what the mix adds to them."""

import numpy as np

from steeldefect.data.augment import frozen_draws, in_turns
from steeldefect.data.bank import permuted, pick, read_bank
from steeldefect.data.datamodule import MixDataModule
from steeldefect.data.resize import resize
from steeldefect.runs.context import Context
from steeldefect.runs.identity import derived_seed
from steeldefect.runs.mixes import keeps_originals
from steeldefect.runs.settings import cell_seed

Part = tuple[np.ndarray, np.ndarray]  # uint8 images (n, S, S), int64 labels (n,)


def added_part(context: Context) -> Part | None:
    """What the mix adds to the originals; None where that is nothing. `MissingArtifact` without the bank it needs."""
    mix, counts = context.settings["mix"], context.added_counts
    if context.bank_id is not None:
        folder = context.store.need("banks", context.bank_id, context.command("synthesize"))
        images, labels = read_bank(folder, context.split_id)
        if mix["kind"] == "shuffled":
            labels = permuted(labels, mix["seed"])
        chosen = pick(labels, counts, context.images.classes)
        return images[chosen], labels[chosen]
    if sum(counts) == 0:
        return None
    if mix["kind"] == "real_extra":
        return _real_part(context, context.extra)
    images, labels = _real_part(context, context.real)
    if mix["kind"] == "oversampled":
        again = in_turns(labels, counts)
        return images[again], labels[again]
    small = resize(images, context.settings["classifier"]["image_size"])
    drawn, drawn_labels = frozen_draws(small, labels, counts, derived_seed("classical", mix["seed"]))
    return drawn.numpy(), drawn_labels


def phase_data(context: Context, added: Part | None, phase: str) -> MixDataModule:
    """Phase `initial`: the originals, or for org0 its synthetic images; phase `retrain`: the mix."""
    settings = context.settings
    originals = context.real if keeps_originals(settings["mix"]) else context.real[:0]
    return MixDataModule(
        _real_part(context, originals),
        None if phase == "initial" and len(originals) else added,
        settings["classifier"]["image_size"],
        settings["optimizer"]["batch_size"],
        derived_seed(cell_seed(settings), phase),
        settings["augment"],
    )


def _real_part(context: Context, indices: np.ndarray) -> Part:
    return context.images.images[indices], context.images.labels[indices]
