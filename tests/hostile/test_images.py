"""Folders of images as nobody should deliver them: loaded, or refused with a message; nothing is written elsewhere."""

import io
import os
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from steeldefect.data.sources import load_dataset
from tests.data.test_sources import config
from tests.hostile.harness import hostile, or_message, tree

MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I", "I;16", "F")
FORMATS = {"png": "PNG", "jpg": "JPEG", "bmp": "BMP", "tif": "TIFF", "gif": "GIF", "webp": "WEBP", "ico": "ICO"}
NAMES = st.sampled_from(
    ["a", "b", "train", "test", "..a", "a b", "ä", "-m", "%s", "a\nb", "x" * 200, "con", "crazing", "{}", "$(id)", "'"]
)


@st.composite
def picture(draw: st.DrawFn) -> bytes:
    """An image file of some mode and format, whole, cut short, or with a byte changed."""
    mode, kind = draw(st.sampled_from(MODES)), draw(st.sampled_from(sorted(FORMATS.values())))
    size = (draw(st.integers(1, 20)), draw(st.integers(1, 20)))
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, size[::-1], dtype=np.uint8))
    try:
        image = noise.convert(mode)
        exif = Image.Exif()
        exif[0x0112] = draw(st.integers(0, 9))
        more = {"save_all": True, "append_images": [image]} if draw(st.booleans()) and kind != "JPEG" else {}
        file = io.BytesIO()
        image.save(file, kind, exif=exif, **more)
    except (OSError, ValueError, KeyError):  # no such mode in this format
        file = io.BytesIO()
        noise.save(file, "PNG")
    data = bytearray(file.getvalue())
    harm = draw(st.sampled_from(["none", "cut", "byte", "byte"]))
    if harm == "cut":
        del data[draw(st.integers(0, len(data) - 1)) :]
    if harm == "byte":
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


def claim(width: int, height: int, raw: bytes = b"") -> bytes:
    """A PNG whose header claims width x height gray pixels, over compressed `raw`."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = (body, b"IDAT" + zlib.compress(raw), b"IEND")
    packed = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


BOMBS = st.one_of(
    st.builds(claim, st.integers(0, 2**31), st.integers(0, 2**31)),
    st.just(claim(7000, 7000, bytes(100))),
    st.binary(max_size=200),
    st.just(b""),
)
LINKS = st.sampled_from([".", "..", "/", "nowhere", "/dev/zero", "/etc/passwd", "loop"]).map(Path)
ENTRIES = st.lists(
    st.tuples(NAMES, NAMES, st.sampled_from(sorted(FORMATS)), st.one_of(picture(), picture(), BOMBS, LINKS)),
    min_size=1,
    max_size=8,
)


def write(root: Path, entries: list[tuple[str, str, str, bytes | Path]]) -> None:
    for folder, stem, ending, content in entries:
        path = root / folder / f"{stem}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink() or path.exists():
            continue
        if isinstance(content, Path):
            path.symlink_to(content)
        else:
            path.write_bytes(content)


@hostile
@given(ENTRIES, st.sampled_from(["image_folder", "neu_cls"]))
@example([("a", "1", "png", Path("/dev/zero")), ("b", "1", "png", claim(2, 2, bytes(6)))], "image_folder")
@example([("a", "1", "png", claim(2, 2, bytes(6))), ("b", "1", "png", claim(2, 2, bytes(6)))], "image_folder")
def test_folders_of_images(entries: list, layout: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        root, cache = Path(place) / "data", Path(place) / "artifacts" / "cache"
        write(root, entries)
        before = tree(root)
        found = or_message(lambda: load_dataset(config(layout, root, image_size=8), cache))
        assert tree(root) == before
        assert sorted(path.name for path in Path(place).iterdir()) in (["data"], ["artifacts", "data"])
        if found is not None:
            assert found.images.shape == (len(found.names), 8, 8) and found.images.dtype == np.uint8
        elif cache.exists():
            assert not list(cache.iterdir())


def test_a_fifo_and_a_device_named_like_images_are_no_images(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(claim(2, 2, bytes(6)))
    os.mkfifo(tmp_path / "a" / "pipe.png")
    (tmp_path / "a" / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "b" / "loop").symlink_to("..")
    found = or_message(lambda: load_dataset(config("image_folder", tmp_path, image_size=8), tmp_path / "cache"))
    assert found is None or len(found.names) == 2
