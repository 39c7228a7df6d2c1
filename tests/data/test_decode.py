"""Pixel formats as gray bytes, and the cache: what it spares, and what it notices."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from steeldefect.data import sources
from steeldefect.data.decode import Reading, decode
from steeldefect.data.sources import load_dataset
from steeldefect.runs.errors import UserError
from tests.data.test_sources import config, picture, save, two_classes

GRAY = np.arange(0, 256, dtype=np.uint8).reshape(16, 16)
RGB = np.stack([GRAY, GRAY, GRAY], -1)


def formats(folder: Path) -> dict[str, Path]:
    palette = Image.fromarray(255 - GRAY).convert("P")
    palette.putpalette([v for k in range(256) for v in (255 - k, 255 - k, 255 - k)])
    files = {
        "rgb": Image.fromarray(RGB),
        "16 bit": Image.fromarray(GRAY.astype(np.uint16) * 257),
        "palette": palette,
        "opaque": Image.fromarray(np.dstack([RGB, np.full((16, 16), 255, np.uint8)])),
        "gray and alpha": Image.fromarray(np.dstack([GRAY, np.full((16, 16), 255, np.uint8)])),
    }
    tiffs = {
        "cmyk": Image.fromarray(np.dstack([np.zeros_like(RGB), 255 - GRAY]), "CMYK"),
        "float in [0, 1]": Image.fromarray(GRAY.astype(np.float32) / 255),
        "float in [0, 255]": Image.fromarray(GRAY.astype(np.float32)),
        "32 bit": Image.fromarray(GRAY.astype(np.int32) * 257),
    }
    paths = {name: folder / f"{name.translate(str.maketrans('[], ', '____'))}.png" for name in files}
    paths |= {name: folder / f"{name.translate(str.maketrans('[], ', '____'))}.tif" for name in tiffs}
    for name, image in (files | tiffs).items():
        image.save(paths[name])
    return paths


def test_pixel_formats_all_give_the_same_gray(tmp_path):
    for name, path in formats(tmp_path).items():
        assert np.abs(decode(path, Reading(16)).astype(int) - GRAY).max() <= 1, name


def test_wide_values_without_a_usual_full_scale_are_stretched(tmp_path):
    values = np.linspace(-5, 900_000, 256, dtype=np.float32).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "x.tif")
    assert np.abs(decode(tmp_path / "x.tif", Reading(16)).astype(int) - GRAY).max() <= 1
    values[3, 3] = np.nan
    Image.fromarray(values).save(tmp_path / "x.tif")
    with pytest.raises(ValueError, match="not finite"):
        decode(tmp_path / "x.tif", Reading(16))


def test_transparent_pixels_are_white_whatever_hides_there(tmp_path):
    alpha = np.where(np.arange(16) < 8, 255, 0).astype(np.uint8)
    Image.fromarray(np.dstack([RGB, np.tile(alpha, (16, 1))])).save(tmp_path / "x.png")
    found = decode(tmp_path / "x.png", Reading(16))
    assert np.array_equal(found[:, :8], GRAY[:, :8]) and (found[:, 8:] == 255).all()


def test_exif_orientation_is_applied_and_a_damaged_block_is_not_fatal(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(GRAY).save(tmp_path / "x.jpg", exif=exif, quality=100)
    assert np.abs(decode(tmp_path / "x.jpg", Reading(16)).astype(int) - np.rot90(GRAY, -1)).max() <= 2
    Image.fromarray(GRAY).save(tmp_path / "y.jpg", exif=b"Exif\0\0broken", quality=100)
    assert np.abs(decode(tmp_path / "y.jpg", Reading(16)).astype(int) - GRAY).max() <= 2


@pytest.mark.parametrize("ending", ["png", "tif", "gif"])
def test_first_frame_of_an_animation(tmp_path, ending):
    frames = [Image.fromarray(frame) for frame in (GRAY, 255 - GRAY)]
    frames[0].save(tmp_path / f"x.{ending}", save_all=True, append_images=frames[1:])
    assert np.array_equal(decode(tmp_path / f"x.{ending}", Reading(16)), GRAY)


def test_reduction_is_antialiased(tmp_path):
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    assert np.abs(decode(save(tmp_path / "stripes.png", stripes), Reading(8)).astype(int) - 127).max() <= 6


@pytest.fixture
def loaded(tmp_path):
    root = two_classes(tmp_path / "data")
    return root, load_dataset(config("image_folder", root, image_size=10), tmp_path / "cache"), tmp_path / "cache"


def test_second_load_decodes_nothing(loaded, monkeypatch, caplog):
    root, first, cache = loaded
    monkeypatch.setattr(sources, "decode_with_facts", lambda *_: pytest.fail("decoded"))
    again = load_dataset(config("image_folder", root, image_size=10), cache)
    assert np.array_equal(again.images, first.images) and again.content == first.content
    assert isinstance(again.images, np.memmap) and not again.images.flags.writeable
    assert sorted(path.name for path in cache.iterdir()) == [f"{first.content}.json", f"{first.content}.npy"]
    assert not caplog.text


def test_content_follows_bytes_classes_and_size_but_not_the_place(loaded, tmp_path):
    root, first, cache = loaded
    moved = shutil.copytree(root, tmp_path / "moved")
    assert load_dataset(config("image_folder", moved, image_size=10), cache).content == first.content
    assert load_dataset(config("image_folder", moved, image_size=11), cache).content != first.content
    (moved / "bad").rename(moved / "worse")
    assert load_dataset(config("image_folder", moved, image_size=10), cache).content != first.content
    (moved / "worse").rename(moved / "bad")
    save(moved / "bad" / "1.png", picture(1) ^ 1)
    assert load_dataset(config("image_folder", moved, image_size=10), cache).content != first.content


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("ending", "damage"),
    [
        ("npy", flip),
        ("npy", lambda path: path.write_bytes(path.read_bytes()[:-7])),
        ("npy", lambda path: path.write_bytes(b"")),
        ("npy", lambda path: np.save(path, np.zeros((6, 10, 9), np.uint8))),
        ("npy", Path.unlink),
        ("json", lambda path: path.write_text("{")),
        ("json", lambda path: path.write_text("[]")),
    ],
)
def test_damaged_cache_is_made_again_with_a_warning(loaded, caplog, ending, damage):
    root, first, cache = loaded
    expected = np.array(first.images)
    damage(cache / f"{first.content}.{ending}")
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(load_dataset(config("image_folder", root, image_size=10), cache).images, expected)
    assert "damaged" in caplog.text
    caplog.clear()
    assert np.array_equal(load_dataset(config("image_folder", root, image_size=10), cache).images, expected)
    assert not caplog.text


def test_array_of_a_killed_writer_counts_for_nothing(loaded):
    root, first, cache = loaded
    expected = np.array(first.images)
    (cache / f"{first.content}.json").unlink()
    np.save(cache / f"{first.content}.npy", np.zeros((6, 10, 10), np.uint8))
    assert np.array_equal(load_dataset(config("image_folder", root, image_size=10), cache).images, expected)


def test_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/cache: cannot be written .* set artifacts="):
        load_dataset(config("image_folder", two_classes(tmp_path / "data")), tmp_path / "file" / "cache")


def sixteen_bits(root: Path, bits: int) -> None:
    """Every image of `root` as if a camera of so many bits had filled its range."""
    ramp = np.arange(256, dtype=np.uint16) * 2 ** (bits - 8)
    for k, path in enumerate(sorted(root.glob("*/*"))):
        save(path, np.roll(ramp, k).reshape(16, 16))


def test_a_camera_of_twelve_bits_is_not_black(tmp_path, caplog):
    root = two_classes(tmp_path / "data")
    sixteen_bits(root, 12)
    dark = load_dataset(config("image_folder", root, image_size=16), tmp_path / "cache")
    assert dark.images.max() == 16
    assert "reach 4080 of 65535" in caplog.text and "dataset.bits=12" in caplog.text
    caplog.clear()
    load_dataset(config("image_folder", root, image_size=16), tmp_path / "cache")
    assert "dataset.bits=12" in caplog.text, "a cached set is as dark"
    caplog.clear()
    light = load_dataset(config("image_folder", root, image_size=16) | {"bits": 12}, tmp_path / "cache")
    assert light.images.max() == 254 and light.content != dark.content and not caplog.text
    with pytest.raises(UserError, match=r"not of dataset\.bits=11"):
        load_dataset(config("image_folder", root, image_size=16) | {"bits": 11}, tmp_path / "cache")
    with pytest.raises(UserError, match=r"dataset\.bits=99: must be null"):
        load_dataset(config("image_folder", root, image_size=16) | {"bits": 99}, tmp_path / "cache")


def test_one_saturated_file_hides_no_camera_of_fewer_bits(tmp_path, caplog):
    root = two_classes(tmp_path / "data")
    sixteen_bits(root, 14)
    load_dataset(config("image_folder", root, image_size=16), tmp_path / "cache")
    assert "reach 16320 of 65535," in caplog.text and caplog.text.rstrip().endswith("dataset.bits=14")
    caplog.clear()
    save(root / "bad" / "1.png", np.full((16, 16), 65535, np.uint16))
    load_dataset(config("image_folder", root, image_size=16), tmp_path / "cache")
    assert "reach 16320 of 65535 (median of their maxima)" in caplog.text
    assert "dataset.bits=14 (which 1 of them exceed" in caplog.text
    caplog.clear()
    sixteen_bits(root, 16)
    load_dataset(config("image_folder", root, image_size=16), tmp_path / "cache")
    assert not caplog.text


def test_float_images_of_different_scales_are_told(tmp_path, caplog):
    for k in range(4):
        (tmp_path / "images" / "ab"[k % 2]).mkdir(parents=True, exist_ok=True)
        values = np.linspace(0, 1.02 if k > 1 else 1.0, 64, dtype=np.float32).reshape(8, 8)
        Image.fromarray(values).save(tmp_path / "images" / "ab"[k % 2] / f"{k}.tif")
    dataset = config("image_folder", tmp_path / "images", image_size=8)
    assert sorted(load_dataset(dataset, tmp_path / "cache").images.max((1, 2)).tolist()) == [1, 1, 255, 255]
    assert "2 are read up to 1, 2 are read up to 255" in caplog.text
    caplog.clear()
    load_dataset(dataset, tmp_path / "cache")  # from the cache
    assert "2 are read up to 1, 2 are read up to 255" in caplog.text


def test_a_depth_that_gives_the_class_away_is_told(tmp_path, caplog):
    root = two_classes(tmp_path / "data")
    sixteen_bits(root, 16)
    for k in (1, 2, 3):
        save(root / "good" / f"{k}.png", picture(k))
    for _ in ("decoded", "cached"):
        caplog.clear()
        load_dataset(config("image_folder", root, image_size=16), tmp_path / "cache")
        assert "the images of bad have 16 bits, those of good do not" in caplog.text
    caplog.clear()
    save(root / "bad" / "1.png", picture(9))
    load_dataset(config("image_folder", root, image_size=16), tmp_path / "cache")
    assert not caplog.text


def test_pages_that_are_not_used_are_told(tmp_path, caplog):
    root = two_classes(tmp_path / "data")
    before = load_dataset(config("image_folder", root, image_size=12), tmp_path / "cache")
    frames = [Image.fromarray(picture(seed)) for seed in range(50, 70)]
    for name in ("stack.tif", "film.png"):
        frames[0].save(root / "good" / name, save_all=True, append_images=frames[1:])
    found = load_dataset(config("image_folder", root, image_size=12), tmp_path / "cache")
    assert "of 2 of 8 files only the first page is used (good/film.png: 20 pages)" in caplog.text
    assert np.array_equal(found.images[found.names.index("good/stack")], picture(50))
    assert np.array_equal(found.images[found.names.index("good/1")], before.images[before.names.index("good/1")])
    caplog.clear()
    load_dataset(config("image_folder", root, image_size=12), tmp_path / "cache")
    assert "20 pages" in caplog.text, "a cached set has as many"


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_damaged_later_page_does_not_matter(tmp_path):
    frames = [Image.fromarray(frame) for frame in (GRAY, 255 - GRAY, GRAY)]
    frames[0].save(tmp_path / "x.tif", save_all=True, append_images=frames[1:])
    data = (tmp_path / "x.tif").read_bytes()
    for end in range(len(data) // 2, len(data), 7):
        (tmp_path / "x.tif").write_bytes(data[:end])
        assert np.array_equal(decode(tmp_path / "x.tif", Reading(16)), GRAY)


def test_colour_and_shape_that_are_lost_are_told(tmp_path, caplog):
    root = two_classes(tmp_path / "data")
    load_dataset(config("image_folder", root, image_size=16), tmp_path / "cache")
    assert not caplog.text
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 200
    save(root / "bad" / "red.png", red)
    save(root / "bad" / "gray.png", np.repeat(red[..., :1], 3, axis=2))
    save(root / "bad" / "strip.png", np.zeros((10, 60), np.uint8))
    count = len(load_dataset(config("image_folder", root, image_size=16), tmp_path / "cache").names)
    assert f"1 of {count} images are in colour" in caplog.text
    assert f"1 of {count} images are not square" in caplog.text


def test_a_strip_is_stretched_cropped_or_padded_by_its_reflection(tmp_path):
    """A ramp of 4 x 12: what is left of it, in the middle, whole and squeezed, or whole and mirrored above and below."""
    strip = np.tile(np.arange(12, dtype=np.uint8) * 20, (4, 1)) + np.arange(4, dtype=np.uint8)[:, None]
    path = save(tmp_path / "strip.png", strip)
    assert np.array_equal(decode(path, Reading(4, fit="crop")), strip[:, 4:8])
    padded = decode(path, Reading(12, fit="pad"))
    assert np.array_equal(padded[4:8], strip) and np.array_equal(padded[:4], strip[::-1])
    assert np.array_equal(padded[8:], strip[::-1])
    assert np.array_equal(decode(save(tmp_path / "tall.png", strip.T), Reading(12, fit="pad")), padded.T)
    stretched = decode(path, Reading(12))
    # bilinear filters of the longer side alone would not change it
    assert np.abs(np.diff(stretched[:, ::11].astype(int), axis=0)).max() <= 1 and stretched[0, 11] == strip[0, 11]
    assert decode(save(tmp_path / "line.png", np.zeros((1, 300), np.uint8)), Reading(8, fit="pad")).shape == (8, 8)


def test_the_way_of_fitting_is_part_of_what_the_images_are(tmp_path, caplog):
    root = two_classes(tmp_path / "data")
    save(root / "bad" / "strip.png", np.zeros((10, 60), np.uint8))
    given, cache = config("image_folder", root, image_size=16), tmp_path / "cache"
    stretched = load_dataset(given, cache)
    assert "dataset.fit=crop or pad" in caplog.text
    assert load_dataset(given | {"fit": "stretch"}, cache).content == stretched.content
    caplog.clear()
    assert len({load_dataset(given | {"fit": fit}, cache).content for fit in ("stretch", "crop", "pad")}) == 3
    assert caplog.text.count("squeezed") == 1
    assert load_dataset(given | {"fit": "pad"}, cache, whole=True).content == stretched.content
    with pytest.raises(UserError, match=r"dataset\.fit=cropp: did you mean 'crop'"):
        load_dataset(given | {"fit": "cropp"}, cache)
