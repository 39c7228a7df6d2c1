"""Trials of the overlap audit: what it finds on plates whose overlaps are known, and what it costs by number of images."""

import io
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from steeldefect.data.overlaps import Overlaps, Settings, find_overlaps
from steeldefect.data.rendered import CLASSES, render_plate
from steeldefect.data.sources import ImageSet

WIDE = 0.2  # share of the area from which on the audit promises to find an overlap
Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


@dataclass(frozen=True, eq=False)
class Cut:
    """Square crops of plates: images uint8 (N, S, S), labels (N,), plates (N,) and corners (N, 2) in pixels."""

    images: np.ndarray
    labels: np.ndarray
    plates: np.ndarray
    corners: np.ndarray

    def true_pairs(self, low: float = WIDE) -> set[tuple[int, int]]:
        """Pairs of one plate that share at least `low` of their area."""
        a, b = np.triu_indices(len(self.images), 1)
        size = self.images.shape[1]
        shared = np.prod(np.clip(size - np.abs(self.corners[a] - self.corners[b]), 0, None), 1) / size**2
        keep = (self.plates[a] == self.plates[b]) & (shared >= low)
        return set(zip(a[keep].tolist(), b[keep].tolist(), strict=True))

    def false_pairs(self, found: Overlaps) -> list[tuple[int, int]]:
        return [(a, b) for a, b in pairs_of(found) if self.plates[a] != self.plates[b]]

    def unrelated(self) -> int:
        """Pairs of one class from different plates."""
        a, b = np.triu_indices(len(self.images), 1)
        return int(((self.labels[a] == self.labels[b]) & (self.plates[a] != self.plates[b])).sum())


def cut_plates(plates: int, crops: int, size: int, periodic: bool = False) -> Cut:
    """`crops` of `size` pixels a side from each of `plates` plates a class, twice as wide and high."""
    rng = np.random.default_rng(3)
    images, labels, plate_of, corners = [], [], [], []
    for label, name in enumerate(CLASSES):
        for number in range(plates):
            plate = render_plate(name, number, 2 * size, 2 * size, periodic)
            for top, left in rng.integers(0, size + 1, (crops, 2)):
                images.append(plate[top : top + size, left : left + size])
                labels.append(label)
                plate_of.append(label * plates + number)
                corners.append((top, left))
    return Cut(np.stack(images), np.array(labels), np.array(plate_of), np.array(corners))


def pairs_of(found: Overlaps) -> set[tuple[int, int]]:
    return set(map(tuple, found.pairs.tolist()))


def shot_again(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brightness and contrast changed by up to 20 %, stored as JPEG at quality 75."""
    mean = image.mean()
    changed = rng.uniform(0.8, 1.2) * mean + rng.uniform(0.8, 1.2) * (image - mean)
    packed = io.BytesIO()
    Image.fromarray(np.clip(np.round(changed), 0, 255).astype(np.uint8)).save(packed, "JPEG", quality=75)
    return np.asarray(Image.open(packed))


def recall_trial(name: str, cut: Cut, change: Change | None, threads: int) -> dict[str, Any]:
    """Recall of the pairs that share at least 20 % of their area, and false pairs, within classes."""
    rng = np.random.default_rng(5)
    images = cut.images if change is None else np.stack([change(image, rng) for image in cut.images])
    found = find_overlaps(images, cut.labels, Settings(across_classes=False), CLASSES, threads)
    true = cut.true_pairs()
    hit = len(true & pairs_of(found))
    return {
        "plates": name,
        "images": len(images),
        "true_pairs": len(true),
        "found": hit,
        "recall": f"{hit / len(true):.4f}" if true else "",
        "unrelated_pairs": cut.unrelated(),
        "false_pairs": len(cut.false_pairs(found)),
    }


def growth_trials(images: ImageSet, sizes: list[int], bundle: int, threads: int) -> list[dict[str, Any]]:
    """Time by number of images, exhaustive and with sums of `bundle` images tried first, within classes.

    recall: of the pairs from 20 % overlap up that the exhaustive search of the same images finds.
    """
    order = np.random.default_rng(0).permutation(len(images.names))
    rows: list[dict[str, Any]] = []
    for size in sizes:
        part = np.sort(order[:size])
        pixels, labels = images.images[part], images.labels[part]
        of_all: set[tuple[int, int]] | None = None
        for sums in (1, bundle):
            wall, processor = time.monotonic(), time.process_time()
            settings = replace(Settings(across_classes=False), bundle=sums)
            found = find_overlaps(pixels, labels, settings, images.classes, threads)
            wall, processor = time.monotonic() - wall, time.process_time() - processor
            wide = {(one.a, one.b) for one in found.findings if one.overlap >= WIDE}
            of_all = wide if of_all is None else of_all
            rows.append(
                {
                    "images": len(part),
                    "bundle": sums,
                    "pairs_searched": sum(one.pairs for one in found.passes),
                    "pairs_found": len(found.findings),
                    "recall": f"{len(of_all & wide) / len(of_all):.4f}" if of_all else "",
                    "seconds": round(wall, 1),
                    "processor_seconds": round(processor, 1),
                }
            )
    return rows
