"""An image file as gray bytes, and the verified cache that spares doing it twice."""

import json
import logging
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from PIL import Image, ImageOps

from steeldefect.runs.errors import UserError, require
from steeldefect.runs.identity import digest, file_sha256

log = logging.getLogger(__name__)

# raised whenever a decoded byte may change
DECODE_RECIPE = 1
MAX_PIXELS = 50_000_000
COLOURED = 8  # levels between the channels, on average, from which an image is one in colour
# what files with the endings of images turn out to be; a closed list, since Pillow hands some others to programs
_FORMATS = ("JPEG", "PNG", "BMP", "DIB", "TIFF", "GIF", "WEBP")
# a phone's JPEG with a preview in it is one image
_PAGED = ("PNG", "TIFF", "GIF", "WEBP")


FITS = ("stretch", "crop", "pad")


@dataclass(frozen=True)
class Reading:
    """How a file becomes a gray square of `image_size` pixels.

    bits: how many of its 16 a camera fills; None: all. fit: `stretch` both sides to the square, `crop` the largest square
    in the middle, or `pad` the shorter side with its own reflections. A file that claims more than `max_pixels` is refused.
    """

    image_size: int
    max_pixels: int = MAX_PIXELS
    bits: int | None = None
    fit: str = FITS[0]

    @property
    def content(self) -> dict[str, Any]:
        """What decides about a byte; keys that came later are left out at the value that changes nothing."""
        later = ({} if self.bits is None else {"bits": self.bits}) | ({} if self.fit == FITS[0] else {"fit": self.fit})
        return {"image_size": self.image_size, "recipe": DECODE_RECIPE} | later


@dataclass(frozen=True)
class Facts:
    """Of one file, what the gray square that is made of it no longer shows."""

    colour: bool
    oblong: bool  # sides that differ by more than a tenth
    deepest: int | None  # the largest value of a file of 16 bits
    pages: int
    scale: float | None = None  # of float and 32-bit values: what white is


def decode(path: Path, reading: Reading) -> np.ndarray:
    """The first frame of a file, uint8 (image_size, image_size), upright and gray; raises what Pillow raises.

    UserError, before anything is decoded, where the file says that it holds more than `reading.max_pixels`.
    """
    return decode_with_facts(path, reading)[0]


def decode_with_facts(path: Path, reading: Reading) -> tuple[np.ndarray, Facts]:
    # an explicit list of formats finds only readers that are loaded
    Image.init()
    # Pillow's own limit, which max_pixels takes the place of
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(path, formats=_FORMATS) as image:
        width, height = image.size
        require(
            width * height <= reading.max_pixels,
            lambda: f"{width} x {height} pixels, more than dataset.max_pixels={reading.max_pixels}",
        )
        image.load()
        upright = _upright(image)
        gray = _gray(upright, reading.bits)
        oblong = max(upright.size) > 1.1 * min(upright.size)
        square = _square(gray, reading)
        # pages last: counting them moves the file on
        deepest, scale = _deepest(upright), _scale(upright, reading.bits)
        return square, Facts(_coloured(upright), oblong, deepest, _pages(image), scale)


def _square(gray: Image.Image, reading: Reading) -> np.ndarray:
    size, (width, height) = reading.image_size, gray.size
    target = (size, size)
    if reading.fit == "crop":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        gray = gray.crop((left, top, left + side, top + side))
    elif reading.fit == "pad":
        shrunk = max(1, round(size * min(width, height) / max(width, height)))
        target = (size, shrunk) if width >= height else (shrunk, size)
    if gray.size != target:
        # Pillow's filters widen with the reduction, so that this is antialiased
        gray = gray.resize(target, Image.Resampling.BILINEAR)
    pixels = np.asarray(gray, np.uint8)
    missing = [size - side for side in pixels.shape]
    # the reflection of a surface is more of it, which a bar of one gray is not
    return np.pad(pixels, [(n // 2, n - n // 2) for n in missing], "symmetric") if any(missing) else pixels


def _coloured(image: Image.Image) -> bool:
    if image.mode in ("1", "L", "LA", "F") or image.mode.startswith("I"):
        return False
    small = np.asarray(image.convert("RGB").resize((32, 32), Image.Resampling.BOX), np.int16)
    return bool(np.ptp(small, axis=2).mean() > COLOURED)


def _deepest(image: Image.Image) -> int | None:
    return int(np.asarray(image).max()) if image.mode.startswith("I;16") else None


def _scale(image: Image.Image, bits: int | None) -> float | None:
    """Only of float and 32-bit images is it the values' own; 0 stands for a stretch from the least to the largest."""
    wide = image.mode == "F" or (image.mode.startswith("I") and not image.mode.startswith("I;16") and bits is None)
    return (_full_scale(np.asarray(image), bits) or 0.0) if wide else None


def _pages(image: Image.Image) -> int:
    try:
        return int(getattr(image, "n_frames", 1)) if image.format in _PAGED else 1
    except Exception:
        # the first page did decode; whatever is wrong with a later one does not matter
        return 1


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except (SyntaxError, ValueError, TypeError, KeyError, struct.error):
        # a damaged EXIF block says nothing about pixels that did decode
        return image


def _gray(image: Image.Image, bits: int | None) -> Image.Image:
    """Mode L: transparency over white, 16 bits by their full range, wider ones as `_wide` says."""
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_wide(np.asarray(image), bits))
    if image.mode == "LAB":
        return image.getchannel("L")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image if image.mode == "L" else image.convert("RGB").convert("L")


def _wide(values: np.ndarray, bits: int | None) -> np.ndarray:
    """16-bit, 32-bit and float values as uint8: by `bits`, else by the smallest usual full scale (1, 255, 65535) that
    holds them.

    Per image a stretch would change contrast between images, so it is left to values outside all three.
    """
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("holds values that are not finite")
    full = _full_scale(values, bits)
    if full is None:
        return np.round((values.astype(np.float64) - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
    return np.round(values.astype(np.float64) * (255 / full)).astype(np.uint8)


def _full_scale(values: np.ndarray, bits: int | None) -> float | None:
    """The value of white; None where values lie outside of every scale."""
    low, high = float(values.min()), float(values.max())
    if bits is not None and values.dtype.kind != "f":
        full = float(2**bits - 1)
        if low < 0 or high > full:
            raise ValueError(f"holds values from {low:g} to {high:g}, which are not of dataset.bits={bits}")
        return full
    if values.dtype.itemsize == 2 and low >= 0:
        return 65535.0
    if low < 0 or high > 65535:
        return None
    if values.dtype.kind == "f" and high <= 1:
        return 1.0
    return 255.0 if high <= 255 else 65535.0


def new_array(path: Path, shape: tuple[int, ...]) -> np.memmap:
    """A writable uint8 memmap of a new `.npy` file; OSError at once where the disk has no room for all of it."""
    images = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    # a page that finds no room later would kill the process (SIGBUS)
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return images


def cached(
    folder: Path, content: str, shape: tuple[int, ...], make: Callable[[Path], dict[str, Any]]
) -> tuple[np.ndarray, dict[str, Any]]:
    """A read-only uint8 memmap of `<folder>/<content>.npy` and the table that belongs to it.

    `make` writes the array at the path it is given and returns the table; it is called only where no whole copy is
    found. UserError where the folder cannot be written.
    """
    array, sidecar = folder / f"{content}.npy", folder / f"{content}.json"
    if sidecar.exists():
        found = _verified(array, sidecar, shape)
        if found is not None:
            return found
        log.warning("%s: the cache is damaged; made again", array)
    partial = folder / f".{content}.{uuid4().hex}.npy"
    partial_sidecar = partial.with_suffix(".json")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial.touch()
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); set artifacts=DIR") from error
    try:
        table = make(partial)
        note = {"shape": list(shape), "sha256": file_sha256(partial), "table": table, "table_digest": digest(table)}
        partial_sidecar.write_text(json.dumps(note))
        # the sidecar last: an array without one counts for nothing
        partial.replace(array)
        partial_sidecar.replace(sidecar)
    finally:
        partial.unlink(missing_ok=True)
        partial_sidecar.unlink(missing_ok=True)
    return np.load(array, mmap_mode="r"), table


def _verified(array: Path, sidecar: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, dict[str, Any]] | None:
    try:
        note = json.loads(sidecar.read_text())
        images = np.load(array, mmap_mode="r")
        sound = (
            tuple(note["shape"]) == images.shape == shape
            and images.dtype == np.uint8
            and note["table_digest"] == digest(note["table"])
            and note["sha256"] == file_sha256(array)
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
    return (images, note["table"]) if sound else None
