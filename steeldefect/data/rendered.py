"""The embedded data set: six classes of drawn defects, cut as overlapping crops of larger plates as NEU-CLS is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steeldefect.data.rendered_textures import LOOKS, PAINTERS, Anchors, Canvas, Field, blend, smooth_noise, steel
from steeldefect.runs.errors import nearest, require

# raised whenever a byte of the images may change
RENDER_RECIPE = 1
CLASSES = ("crazing", "inclusion", "patches", "pitted_surface", "rolled-in_scale", "scratches")
# MobileNetV2, 250 updates at 64 px, two partitions by plate: 80 and 84 % at 0.32, 69 and 87 % at 0.35
DEFAULT_DIFFICULTY = 0.3
CROPS_PER_PLATE = (1, 8)
# a crop of this size is drawn one unit a pixel
UNIT_SIZE = 128

_LAYOUT, _DRAWING, _CROPS, _AUDIT = range(4)

# contrast of the defect against its surface, in standard deviations of a grainy one
_DEPTH = {
    "crazing": 3.4,
    "inclusion": 2.6,
    "patches": 4.0,
    "pitted_surface": 3.0,
    "rolled-in_scale": 3.2,
    "scratches": 4.2,
}
# grey level and contrast of a plate: NEU's class means, pulled together so that neither tells the class
_TONE = {
    "crazing": (127, 27),
    "inclusion": (117, 18),
    "patches": (128, 34),
    "pitted_surface": (142, 23),
    "rolled-in_scale": (121, 20),
    "scratches": (112, 22),
}


@dataclass(frozen=True)
class Crop:
    """Where an image was cut: plate number over all classes, and the upper left pixel in that plate."""

    plate: int
    top: int
    left: int


@dataclass(frozen=True)
class Layout:
    """A plate before it is drawn: its size and where its crops lie."""

    height: int
    width: int
    corners: tuple[tuple[int, int], ...]


def render(
    per_class: int,
    image_size: int,
    seed: int,
    difficulty: float = DEFAULT_DIFFICULTY,
    crops_per_plate: tuple[int, int] = CROPS_PER_PLATE,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[str, ...]]:
    """`render_with_crops` without the boxes."""
    images, labels, plates, names, _ = render_with_crops(per_class, image_size, seed, difficulty, crops_per_plate)
    return images, labels, plates, names


def render_with_crops(
    per_class: int,
    image_size: int,
    seed: int,
    difficulty: float = DEFAULT_DIFFICULTY,
    crops_per_plate: tuple[int, int] = CROPS_PER_PLATE,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[str, ...], tuple[Crop, ...]]:
    """images uint8 (N, S, S), labels int64 (N,), plates int64 (N,) dense ids, names, crop boxes; class by class.

    A plate depends on its class, its number within the class and `seed` alone, so a larger `per_class` only appends.
    """
    _check(per_class, image_size, seed, difficulty, crops_per_plate)
    images = np.empty((per_class * len(CLASSES), image_size, image_size), np.uint8)
    names: list[str] = []
    crops: list[Crop] = []
    plates = 0
    for class_name in CLASSES:
        number, missing = 0, per_class
        while missing:
            cut, corners = _plate_crops(class_name, number, image_size, seed, difficulty, crops_per_plate)
            cut, corners = cut[:missing], corners[:missing]
            images[len(names) : len(names) + len(cut)] = cut
            names += [f"{class_name}_p{number:03d}_{k}" for k in range(1, len(cut) + 1)]
            crops += [Crop(plates, top, left) for top, left in corners]
            missing -= len(cut)
            number, plates = number + 1, plates + 1
    labels = np.repeat(np.arange(len(CLASSES), dtype=np.int64), per_class)
    return images, labels, np.array([crop.plate for crop in crops], np.int64), tuple(names), tuple(crops)


def render_plate(class_name: str, seed: int, height: int, width: int, periodic: bool = False) -> np.ndarray:
    """One plate, uint8 (height, width), one unit a pixel.

    `periodic` draws the same regular pattern (parallel scratches along the rolling direction, else marks on a lattice)
    under other noise for every seed: plates that look alike and share no pixel, to provoke an overlap audit.
    """
    require(class_name in CLASSES, f"class {class_name!r}: {nearest(class_name, CLASSES)}")
    require(height > 0 and width > 0, f"plate of {height} x {width} pixels: both must be positive")
    rng = _stream(seed, class_name, 0, _AUDIT)
    if periodic:
        return _periodic_plate(rng, class_name, (height, width))
    cell = 0.8 * UNIT_SIZE
    grid = [(y, x) for y in np.arange(cell / 2, height + 1, cell) for x in np.arange(cell / 2, width + 1, cell)]
    anchors = [(y + rng.normal(0, 12), x + rng.normal(0, 12)) for y, x in grid] or [(height / 2, width / 2)]
    return _to_gray(_draw(rng, class_name, (height, width), 1.0, anchors, DEFAULT_DIFFICULTY))


def _check(per_class: int, image_size: int, seed: int, difficulty: float, crops_per_plate: tuple[int, int]) -> None:
    require(per_class >= 1, f"dataset.per_class={per_class}: must be at least 1")
    require(image_size >= 16, f"dataset.image_size={image_size}: must be at least 16")
    require(0 <= seed < 2**63, f"dataset.seed={seed}: must lie in [0, 2^63)")
    require(0 <= difficulty <= 1, f"dataset.difficulty={difficulty}: must lie in [0, 1]")
    low, high = crops_per_plate
    require(1 <= low <= high, f"dataset.crops_per_plate={low}..{high}: must be 1 <= smallest <= largest")


def _stream(seed: int, class_name: str, number: int, purpose: int) -> np.random.Generator:
    word = CLASSES.index(class_name) << 40 | number << 8 | purpose
    return np.random.Generator(np.random.Philox(key=np.array([seed, word], np.uint64)))


def _plate_crops(
    class_name: str, number: int, size: int, seed: int, difficulty: float, crops_per_plate: tuple[int, int]
) -> tuple[np.ndarray, tuple[tuple[int, int], ...]]:
    """All crops of one plate, uint8 (K, S, S), and their upper left corners."""
    rng = _stream(seed, class_name, number, _LAYOUT)
    layout = _lay_out(rng, size, crops_per_plate)
    anchors = _anchors(rng, layout, size)
    # small images are drawn large and averaged down, as a camera would: fine marks fade instead of aliasing
    fine = math.ceil(UNIT_SIZE / size)
    shape = (layout.height * fine, layout.width * fine)
    fine_anchors = [(y * fine, x * fine) for y, x in anchors]
    drawing = _stream(seed, class_name, number, _DRAWING)
    drawn = _draw(drawing, class_name, shape, size * fine / UNIT_SIZE, fine_anchors, difficulty)
    plate = drawn.reshape(layout.height, fine, layout.width, fine).mean(axis=(1, 3))
    rng = _stream(seed, class_name, number, _CROPS)
    # exposures differ a little, so overlapping crops agree up to gain and offset, not byte by byte
    cut = [
        rng.uniform(0.96, 1.04) * plate[top : top + size, left : left + size] + rng.uniform(-4, 4)
        for top, left in layout.corners
    ]
    return np.stack([_to_gray(image) for image in cut]), layout.corners


def _lay_out(rng: np.random.Generator, size: int, crops_per_plate: tuple[int, int]) -> Layout:
    """Crops that each share 17 to 85 % of their area with an earlier one; the plate is what encloses them."""
    counts = np.arange(crops_per_plate[0], crops_per_plate[1] + 1, dtype=np.float64)
    # half of the plates are single images, as in NEU, and the larger ones hold most of the images
    count = int(rng.choice(counts, p=counts**-1.5 / (counts**-1.5).sum()))
    corners = [(0, 0)]
    while len(corners) < count:
        base = corners[int(rng.integers(len(corners)))]
        far, near = rng.choice((-1, 1)) * rng.uniform(0.15, 0.8), rng.uniform(-0.12, 0.12)
        shift = (far, near) if rng.random() < 0.5 else (near, far)
        corner = (base[0] + round(shift[0] * size), base[1] + round(shift[1] * size))
        if corner not in corners:
            corners.append(corner)
    top, left = min(y for y, _ in corners), min(x for _, x in corners)
    height, width = max(y for y, _ in corners) - top + size, max(x for _, x in corners) - left + size
    return Layout(height, width, tuple((y - top, x - left) for y, x in corners))


def _anchors(rng: np.random.Generator, layout: Layout, size: int) -> list[tuple[float, float]]:
    """Points where a defect must be, so that no crop is bare."""
    anchors: list[tuple[float, float]] = []
    for top, left in layout.corners:
        inner = 0.2 * size
        if any(inner < y - top < size - inner and inner < x - left < size - inner for y, x in anchors):
            continue
        y, x = rng.uniform(0.2, 0.8, 2) * size
        anchors.append((top + float(y), left + float(x)))
    return anchors


def _draw(
    rng: np.random.Generator,
    class_name: str,
    shape: tuple[int, int],
    unit: float,
    anchors: Sequence[tuple[float, float]],
    difficulty: float,
) -> Field:
    """Grey levels, float32, not yet clipped to [0, 255]."""
    # at difficulty 1 any class lies on any surface, with contrast down to a sixth, among others' marks as strong;
    # squared, since a classifier falls steeply over the first tenths
    hard = difficulty**2
    stranger = LOOKS[CLASSES[int(rng.integers(len(CLASSES)))]]
    look = blend(LOOKS[class_name], stranger, hard * rng.uniform(0, 1))
    contrast = rng.uniform(0.9, 1.2) * (1 - 0.85 * hard * rng.uniform(0, 1))
    image = steel(rng, shape, unit, look) * rng.uniform(0.8, 1.2)
    image += contrast * _DEPTH[class_name] * _marks(rng, class_name, shape, unit, anchors, 1.0)
    for _ in range(2):
        other = [name for name in CLASSES if name != class_name][int(rng.integers(len(CLASSES) - 1))]
        some = [anchor for anchor in anchors if rng.random() < 0.6]
        strength = hard * rng.uniform(0, 0.7)
        scattered: Anchors = [(y + rng.normal(0, 30) * unit, x + rng.normal(0, 30) * unit) for y, x in some]
        if scattered:
            image += strength * _DEPTH[other] * _marks(rng, other, shape, unit, scattered, 0.35)
    mean_grey, mean_spread = _TONE[class_name]
    grey = np.clip(mean_grey + rng.normal(0, 8 + 20 * hard), 60, 205)
    spread = np.clip(mean_spread * math.exp(rng.normal(0, 0.1 + 0.3 * hard)), 10, 50)
    return np.float32(grey) + np.float32(spread) * (image - image.mean()) / image.std()


def _marks(
    rng: np.random.Generator, class_name: str, shape: tuple[int, int], unit: float, anchors: Anchors, density: float
) -> Field:
    canvas = Canvas.blank(rng, shape, unit)
    PAINTERS[class_name](rng, canvas, anchors, density)
    return canvas.field()


def _periodic_plate(rng: np.random.Generator, class_name: str, shape: tuple[int, int]) -> np.ndarray:
    # shapes and pitch are fixed a class: only the noise follows the seed
    canvas = Canvas(1.0, np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.float32))
    pitch_y, pitch_x, ry, rx = {
        "crazing": (14, 18, 0.9, 6.0),
        "inclusion": (40, 17, 12.0, 2.0),
        "patches": (48, 44, 15.0, 12.0),
        "pitted_surface": (12, 12, 2.2, 2.2),
        "rolled-in_scale": (15, 13, 1.5, 4.0),
        "scratches": (1, 16, 0.0, 0.0),
    }[class_name]
    if class_name == "scratches":
        phase = (np.arange(shape[1]) + pitch_x / 2) % pitch_x - pitch_x / 2
        canvas.bright += np.exp(-0.5 * phase**2).astype(np.float32)
    else:
        for y in range(0, shape[0] + pitch_y, pitch_y):
            for x in range(0, shape[1] + pitch_x, pitch_x):
                canvas.stain(y, x, (ry, rx), 0.0, 1.0)
    noise = smooth_noise(rng, shape, 0.5, 0.5) + 0.5 * smooth_noise(rng, shape, 20, 20)
    return _to_gray(120 + 70 * canvas.field() + 8 * noise)


def _to_gray(image: Field) -> np.ndarray:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
