"""Pictures of the page, inside it as PNG: real beside synthetic images, and what each synthetic one is nearest to."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from steeldefect.data.copies import nearest
from steeldefect.data.inspection import seen_as
from steeldefect.report.collect import Record
from steeldefect.report.galleries import COLUMNS, bank_of_first, training_images

SHOWN = COLUMNS // 2  # images a class
# as in conf/base.yaml, quality
MIN_OVERLAP, TRANSFORMS = 0.25, "flips"
LARGEST = 128  # pixels a side in the page


class Picture(NamedTuple):
    uri: str
    alt: str
    caption: str = ""


class Gallery(NamedTuple):
    """A row a class: name, real training images, and pairs of a synthetic one and its nearest training image."""

    title: str
    rows: Sequence[tuple[str, Sequence[Picture], Sequence[tuple[Picture, Picture]]]]


def gallery(records: Sequence[Record], artifacts: Path) -> Gallery | None:
    """Of the first bank that is at hand, with the training part that it saw; None: not at hand."""
    found = bank_of_first(records, artifacts)
    if found is None:
        return None
    record, images, labels = found
    training = training_images(record, artifacts)
    if training is None:
        return None
    size = images.shape[-1]
    real = np.stack([_resized(image, size) for image in training[0]])
    picked = [np.flatnonzero(labels == c)[:SHOWN] for c in range(len(record["classes"]))]
    synthetic = np.array(images[np.concatenate(picked)])
    close = nearest(synthetic, real, MIN_OVERLAP, TRANSFORMS, threads=1)
    rows, start = [], 0
    for c, name in enumerate(record["classes"]):
        own = [Picture(_uri(image), f"real, {name}") for image in real[training[1] == c][:SHOWN]]
        pairs = []
        for i in range(start, start + len(picked[c])):
            of = record["classes"][training[1][close.partner[i]]]
            told = f"nearest: {of}, {close.value[i]:.2f}"
            partner = Picture(
                _uri(seen_as(real[close.partner[i]], close.view[i])),
                f"real, {of}, nearest to the image before it",
                told,
            )
            pairs.append((Picture(_uri(synthetic[i]), f"synthetic, {name}"), partner))
        start += len(picked[c])
        rows.append((name, own, pairs))
    return Gallery(f"{record['dataset']}, gan={record['gan']}, bank {record['ids']['bank']}, {size} px", rows)


def _resized(image: np.ndarray, size: int) -> np.ndarray:
    if image.shape[-1] == size:
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BOX))


def _uri(image: np.ndarray) -> str:
    """A gray picture `(S, S)`, uint8, as a data URI."""
    content = io.BytesIO()
    Image.fromarray(_resized(image, min(image.shape[-1], LARGEST))).save(content, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()
