"""Rolled steel and six kinds of defect; fields are float32 (H, W), lengths in units of 1/128 of a crop's side."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
from scipy import ndimage

Field = np.ndarray
Anchors = Sequence[tuple[float, float]]
Rng = np.random.Generator


@dataclass(frozen=True)
class Look:
    """Strengths of the parts of a bare surface, in standard deviations of the part."""

    grain: float
    brush: float
    bands: float
    blotch: float
    tilt: float


# measured by eye on NEU: crazing and patches are grainy, inclusions and scratches lie on smooth sheet
LOOKS = {
    "crazing": Look(grain=1.0, brush=0.15, bands=0.25, blotch=0.15, tilt=0.1),
    "inclusion": Look(grain=0.15, brush=0.1, bands=0.35, blotch=0.1, tilt=0.15),
    "patches": Look(grain=0.7, brush=0.1, bands=0.2, blotch=0.2, tilt=0.1),
    "pitted_surface": Look(grain=0.2, brush=0.05, bands=0.15, blotch=0.2, tilt=0.3),
    "rolled-in_scale": Look(grain=0.25, brush=0.55, bands=0.15, blotch=0.25, tilt=0.1),
    "scratches": Look(grain=0.2, brush=0.15, bands=0.2, blotch=0.1, tilt=0.15),
}


def blend(look: Look, other: Look, share: float) -> Look:
    values = {f.name: (1 - share) * getattr(look, f.name) + share * getattr(other, f.name) for f in fields(Look)}
    return Look(**values)


def smooth_noise(rng: Rng, shape: tuple[int, int], sigma_y: float, sigma_x: float) -> Field:
    """Gaussian noise of zero mean and unit variance, correlated over sigma_y by sigma_x pixels."""
    # wide kernels are drawn on a coarse grid: the same look, ten times sooner
    steps = [max(1, int(sigma / 2.5)) for sigma in (sigma_y, sigma_x)]
    coarse = [length // step + 4 for length, step in zip(shape, steps, strict=True)]
    noise = rng.standard_normal(coarse, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, (sigma_y / steps[0], sigma_x / steps[1]), mode="wrap", truncate=3.0)
    noise = (noise - noise.mean()) / (noise.std() + 1e-6)
    for axis, step in enumerate(steps):
        if step > 1:
            noise = _stretch(noise, axis, step, shape[axis])
    return noise[: shape[0], : shape[1]]


def _stretch(noise: Field, axis: int, step: int, length: int) -> Field:
    at = (np.arange(length, dtype=np.float32) + 0.5) / step
    low = at.astype(np.int64)
    share = (at - low).reshape((-1, 1) if axis == 0 else (1, -1))
    return np.take(noise, low, axis) * (1 - share) + np.take(noise, low + 1, axis) * share


def steel(rng: Rng, shape: tuple[int, int], unit: float, look: Look) -> Field:
    """A bare rolled surface: camera grain, brushing along x, bands across x, blotches, uneven light."""
    grain = smooth_noise(rng, shape, 0.45 * unit, 0.45 * unit) + 0.5 * smooth_noise(rng, shape, 1.1 * unit, 1.1 * unit)
    brush = smooth_noise(rng, shape, 0.7 * unit, rng.uniform(2.0, 6.0) * unit)
    bands = smooth_noise(rng, shape, 90 * unit, rng.uniform(3.0, 12.0) * unit)
    blotch = smooth_noise(rng, shape, rng.uniform(8, 20) * unit, rng.uniform(12, 30) * unit)
    angle = rng.uniform(0, 2 * np.pi)
    # light falls off over a crop's width, however large the plate is
    tilt = smooth_noise(rng, shape, 60 * unit, 60 * unit) + np.add.outer(
        np.sin(angle) * np.linspace(-1, 1, shape[0], dtype=np.float32),
        np.cos(angle) * np.linspace(-1, 1, shape[1], dtype=np.float32),
    )
    return (
        look.grain * grain + look.brush * brush + look.bands * bands + look.blotch * blotch + look.tilt * tilt
    ).astype(np.float32)


@dataclass
class Canvas:
    """Where marks are collected: `dark` and `bright` in [0, 1], `ragged` is the noise that frays their edges."""

    unit: float
    dark: Field
    bright: Field
    ragged: Field

    @classmethod
    def blank(cls, rng: Rng, shape: tuple[int, int], unit: float) -> "Canvas":
        return cls(
            unit=unit,
            dark=np.zeros(shape, np.float32),
            bright=np.zeros(shape, np.float32),
            ragged=smooth_noise(rng, shape, 0.9 * unit, 0.9 * unit),
        )

    @property
    def shape(self) -> tuple[int, int]:
        return self.dark.shape[0], self.dark.shape[1]

    @property
    def area(self) -> float:
        """In square units."""
        return self.dark.size / self.unit**2

    def field(self) -> Field:
        return self.bright - self.dark

    def stain(
        self, y: float, x: float, half: tuple[float, float], angle: float, depth: float, light: bool = False
    ) -> None:
        """A soft ellipse with frayed edges at pixel (y, x); `half` are its half axes (along y, along x) in units."""
        ry, rx = (max(0.5, value * self.unit) for value in half)
        reach = int(1.5 * max(ry, rx)) + 2
        top, left = max(0, int(y) - reach), max(0, int(x) - reach)
        window = (slice(top, max(0, int(y) + reach + 1)), slice(left, max(0, int(x) + reach + 1)))
        layer = (self.bright if light else self.dark)[window]
        dy = np.arange(top, top + layer.shape[0], dtype=np.float32)[:, None] - np.float32(y)
        dx = np.arange(left, left + layer.shape[1], dtype=np.float32)[None, :] - np.float32(x)
        cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        across, along = (dy * cosine - dx * sine) / ry, (dy * sine + dx * cosine) / rx
        level = 1 - across**2 - along**2 + 0.35 * self.ragged[window]
        np.maximum(layer, np.float32(depth) * np.clip(level / 0.5, 0, 1), out=layer)


def near(rng: Rng, anchors: Anchors, spread: tuple[float, float], count: int) -> np.ndarray:
    """(count, 2) points scattered about the anchors, normal with the given pixel spread (y, x)."""
    centres = np.asarray(anchors)[rng.integers(len(anchors), size=count)]
    return centres + rng.standard_normal((count, 2)) * spread


def paint_crazing(rng: Rng, canvas: Canvas, anchors: Anchors, density: float) -> None:
    unit, (height, width) = canvas.unit, canvas.shape
    count = max(4, int(density * canvas.area / rng.uniform(260, 520)))
    start = rng.uniform((0, 0), (height, width), (count, 2))
    anchored = near(rng, anchors, (30 * unit, 30 * unit), count)
    start = np.where(rng.random((count, 1)) < 0.5, start, anchored)
    heading = rng.normal(rng.uniform(-0.3, 0.3), 0.5, count) + np.pi * rng.integers(0, 2, count)
    hits = np.zeros(canvas.shape)
    for generation in range(2):
        length = np.exp(rng.normal(np.log(26), 0.5, count)) / (1 + generation)
        track = _walk(rng, start, heading, length, unit, hits)
        # the second generation branches off the first one's cracks
        start = track[rng.integers(0, len(track), count), np.arange(count)]
        heading = heading + rng.choice((-1.0, 1.0), count) * rng.uniform(0.6, 1.3, count)
    cracks = ndimage.gaussian_filter(hits, rng.uniform(0.6, 0.9) * unit)
    peak = np.quantile(cracks[cracks > 0.02], 0.9) if (cracks > 0.02).any() else 1.0
    np.maximum(canvas.dark, np.clip(cracks / peak, 0, 1).astype(np.float32), out=canvas.dark)


def _walk(
    rng: Rng, start: np.ndarray, heading: np.ndarray, length: np.ndarray, unit: float, hits: np.ndarray
) -> np.ndarray:
    """Moves all cracks at once; adds their pixels to `hits` and returns the positions (T, count, 2)."""
    steps = int(length.max()) + 1
    turns = np.cumsum(rng.normal(0, 0.38, (steps, len(start))), axis=0)
    # cracks jitter about their course instead of curling up
    course = heading + 0.5 * np.sin(turns) + rng.normal(0, 0.45, turns.shape)
    moves = 0.8 * unit * np.stack((np.sin(course), np.cos(course)), axis=-1)
    track = start + np.cumsum(moves, axis=0)
    left = length - np.arange(steps)[:, None]
    weight = np.clip(left / 6, 0, 1) * rng.uniform(0.35, 1.0, len(start))
    at = track.astype(np.int64)
    inside = (left > 0) & (at >= 0).all(axis=-1) & (at < hits.shape).all(axis=-1)
    np.maximum.at(hits, (at[inside][:, 0], at[inside][:, 1]), weight[inside])
    return track


def paint_inclusion(rng: Rng, canvas: Canvas, anchors: Anchors, density: float) -> None:
    unit = canvas.unit
    size = np.exp(rng.normal(0, 0.3))
    for y, x in anchors:
        slant = rng.normal(0, 0.05)
        for _ in range(max(1, int(density * rng.integers(2, 8)))):
            half = float(np.clip(size * np.exp(rng.normal(np.log(9), 0.5)), 3, 40))
            down = rng.normal(0, 20) * unit
            aside = slant * down + rng.normal(0, 2.5) * unit
            thick = float(np.clip(half / rng.uniform(3, 6), 1.4, 4.5))
            canvas.stain(y + down, x + aside, (half, thick), rng.normal(slant, 0.05), rng.uniform(0.5, 1.0))
        if rng.random() < 0.45 * density:
            # a long faint streak beside or under the spots
            half, thick = rng.uniform(40, 90), rng.uniform(1.5, 4.0)
            canvas.stain(y, x + rng.normal(0, 8) * unit, (half, thick), slant, rng.uniform(0.25, 0.5))


def paint_patches(rng: Rng, canvas: Canvas, anchors: Anchors, density: float) -> None:
    unit, shape = canvas.unit, canvas.shape
    size = rng.uniform(0.7, 1.3) * np.sqrt(density)
    level = smooth_noise(rng, shape, 20 * unit, 13 * unit) * 0.5 - rng.uniform(0.75, 1.05)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    for y, x in anchors:
        ry, rx = size * rng.uniform(20, 40) * unit, size * rng.uniform(15, 28) * unit
        level += 2.0 * np.exp(-0.5 * ((rows - y) / ry) ** 2 - 0.5 * ((columns - x) / rx) ** 2)
    level += 0.12 * canvas.ragged + 0.18 * smooth_noise(rng, shape, 4 * unit, 4 * unit)
    softness = rng.uniform(0.2, 0.6)
    mottle = 1 - 0.12 * np.abs(smooth_noise(rng, shape, 5 * unit, 3 * unit))
    np.maximum(canvas.dark, np.clip(level / softness, 0, 1) * mottle * 0.9, out=canvas.dark)
    for y, x in near(rng, anchors, (25 * unit, 18 * unit), int(density * rng.integers(0, 20))):
        canvas.stain(y, x, (rng.uniform(0.6, 2.0), rng.uniform(0.6, 1.6)), rng.uniform(0, 3), 1.0)


def paint_pitted_surface(rng: Rng, canvas: Canvas, anchors: Anchors, density: float) -> None:
    unit, (height, width) = canvas.unit, canvas.shape
    count = int(density * canvas.area / rng.uniform(50, 110))
    size = rng.uniform(0.75, 1.25)
    crowd = smooth_noise(rng, canvas.shape, 25 * unit, 18 * unit)
    where = rng.uniform((0, 0), (height, width), (count, 2))
    anchored = near(rng, anchors, (28 * unit, 28 * unit), count)
    where = np.where(rng.random((count, 1)) < 0.4, anchored, where)
    keep = rng.random(count)
    for (y, x), luck in zip(where, keep, strict=True):
        row, column = min(max(int(y), 0), height - 1), min(max(int(x), 0), width - 1)
        if luck > 0.65 + 0.35 * crowd[row, column]:
            continue
        radius = float(np.clip(size * np.exp(rng.normal(np.log(2.0), 0.35)), 1.0, 5))
        canvas.stain(y, x, (radius * rng.uniform(1, 1.7), radius), rng.normal(0, 0.6), rng.uniform(0.4, 1.0))
    if rng.random() < 0.3 * density:
        # a corroded region with a frayed border, as on some NEU plates
        region = smooth_noise(rng, canvas.shape, 30 * unit, 22 * unit) - 1.1 + 0.15 * canvas.ragged
        np.maximum(canvas.dark, 0.5 * np.clip(region / 0.2, 0, 1), out=canvas.dark)


def paint_rolled_in_scale(rng: Rng, canvas: Canvas, anchors: Anchors, density: float) -> None:
    unit, (height, width) = canvas.unit, canvas.shape
    count = max(6, int(density * canvas.area / rng.uniform(180, 400)))
    where = rng.uniform((0, 0), (height, width), (count, 2))
    anchored = near(rng, anchors, (20 * unit, 16 * unit), count)
    where = np.where(rng.random((count, 1)) < 0.6, anchored, where)
    slant, size = rng.normal(-0.3, 0.15), rng.uniform(0.8, 1.25)
    for y, x in where:
        rx = float(np.clip(size * np.exp(rng.normal(np.log(3.0), 0.35)), 1.5, 7))
        ry, angle, depth = rx * rng.uniform(0.35, 0.6), rng.normal(slant, 0.2), rng.uniform(0.35, 1.0)
        canvas.stain(y, x, (ry, rx), angle, depth)
        # scale is pressed in: the far rim catches the light
        canvas.stain(y + 1.3 * ry * unit, x - 0.3 * rx * unit, (0.5 * ry, 0.9 * rx), angle, 0.35 * depth, light=True)
    for y, x in near(rng, anchors, (25 * unit, 25 * unit), int(density * rng.integers(0, 5))):
        canvas.stain(y, x, (0.7, rng.uniform(6, 14)), rng.normal(slant, 0.1), rng.uniform(0.4, 0.8))


def paint_scratches(rng: Rng, canvas: Canvas, anchors: Anchors, density: float) -> None:
    kind = rng.choice(3, p=(0.65, 0.25, 0.10))
    for y, x in anchors:
        lying = kind == 1 or (kind == 2 and rng.random() < 0.5)
        layer = canvas.bright.T if lying else canvas.bright
        along, across = (x, y) if lying else (y, x)
        slope, wide = rng.normal(0, 0.03), rng.random() < 0.12
        for companion in range(1 + int(density * rng.integers(0, 5))):
            offset = 0.0 if companion == 0 else rng.normal(0, 9) * canvas.unit
            thick = (rng.uniform(2.0, 4.5) if wide and companion == 0 else rng.uniform(0.7, 1.5)) * canvas.unit
            reach = rng.uniform(25, 160) * canvas.unit
            peak = 1.0 if companion == 0 else rng.uniform(0.15, 0.7)
            _line(rng, layer, (along, across + offset), slope + rng.normal(0, 0.006), thick, reach, peak)


def _line(
    rng: Rng, layer: Field, at: tuple[float, float], slope: float, thick: float, reach: float, peak: float
) -> None:
    """A bright line down the rows of `layer` through `at`, that flickers along its way and fades at its ends."""
    rows = np.arange(layer.shape[0], dtype=np.float32)
    centre = at[1] + slope * (rows - at[0]) + 0.25 * thick * smooth_noise(rng, (len(rows), 1), 6, 0.5)[:, 0]
    flicker = np.clip(0.7 + 0.25 * smooth_noise(rng, (len(rows), 1), 4, 0.5)[:, 0], 0.15, 1)
    strength = peak * flicker * np.clip((reach - np.abs(rows - at[0])) / (0.25 * reach), 0, 1)
    first = max(0, int(centre.min() - 3 * thick))
    window = layer[:, first : max(first, int(centre.max() + 3 * thick) + 2)]
    columns = first + np.arange(window.shape[1], dtype=np.float32)
    profile = np.exp(-0.5 * ((columns[None, :] - centre[:, None]) / thick) ** 2)
    np.maximum(window, strength[:, None] * profile, out=window)


Painter = Callable[[Rng, Canvas, Anchors, float], None]
PAINTERS: dict[str, Painter] = {
    "crazing": paint_crazing,
    "inclusion": paint_inclusion,
    "patches": paint_patches,
    "pitted_surface": paint_pitted_surface,
    "rolled-in_scale": paint_rolled_in_scale,
    "scratches": paint_scratches,
}
