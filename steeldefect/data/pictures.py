"""Sheets of small images with the class names beside the rows."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

GAP = 2
LABEL_WIDTH = 110


def sheet(images: np.ndarray, rows: Sequence[str], min_side: int = 64) -> Image.Image:
    """A gray picture of uint8 `images` `(R, n, S, S)`, one row a class, enlarged by whole factors to `min_side`."""
    factor = max(1, min_side // images.shape[-1])
    images = images.repeat(factor, axis=2).repeat(factor, axis=3)
    r, n, side = images.shape[:3]
    picture = Image.new("L", (LABEL_WIDTH + n * (side + GAP), r * (side + GAP)), 255)
    pen = ImageDraw.Draw(picture)
    for i, name in enumerate(rows):
        top = i * (side + GAP)
        pen.text((4, top + side // 2 - 6), name, fill=0)
        for j in range(n):
            picture.paste(Image.fromarray(images[i, j]), (LABEL_WIDTH + j * (side + GAP), top))
    return picture


def first_of_each(images: np.ndarray, labels: np.ndarray, classes: int, n: int) -> np.ndarray:
    """`(C, n, S, S)`: the first n images of each class, padded with white where a class has fewer."""
    picked = np.full((classes, n, *images.shape[1:]), 255, np.uint8)
    for c in range(classes):
        found = np.flatnonzero(labels == c)[:n]
        picked[c, : len(found)] = images[found]
    return picked
