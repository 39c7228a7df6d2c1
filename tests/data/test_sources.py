"""Layouts, names and bad files; images are made here, NEU is read where it is at hand."""

import logging
import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from steeldefect.data import layouts
from steeldefect.data.layouts import NEU_CLASSES, NEU_SPELLINGS, natural_key
from steeldefect.data.sources import load_dataset
from steeldefect.runs.errors import UserError

CONF = Path(__file__).parents[2] / "conf" / "dataset"
CODES = dict(zip(NEU_CLASSES, ("Cr", "In", "Pa", "PS", "RS", "Sc"), strict=True))
KAGGLE = dict(zip(NEU_CLASSES, ("Crazing", "Inclusion", "Patches", "Pitted", "Rolled", "Scratches"), strict=True))
NUMBERS = (1, 2, 10)


def config(name: str, root: Path | str | None, **more) -> dict:
    found = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
    return found | {"root": None if root is None else str(root)} | more


def picture(seed: int, size: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def two_classes(root: Path, count: int = 3) -> Path:
    for c, name in enumerate(("bad", "good")):
        for k in range(1, count + 1):
            save(root / name / f"{k}.png", picture(10 * c + k))
    return root


LAYOUTS = {
    "official": lambda c, k: f"{CODES[c]}_{k}.bmp",
    "official, other case": lambda c, k: f"{CODES[c].lower()}_{k:03d}.BMP",
    "NEU-DET": lambda c, k: f"{c}_{k}.bmp",
    "class folders": lambda c, k: f"{c}/{c}_{k}.bmp",
    "class folders, numbers": lambda c, k: f"{c.replace('-', '_').title()}/{k}.bmp",
    "parts": lambda c, k: f"{'train' if k < 3 else 'test'}/{CODES[c]}/{CODES[c]}_{k}.bmp",
    "Kaggle": lambda c, k: f"{('train', 'valid', 'test')[k % 3]}/{KAGGLE[c]}/{CODES[c]}_{k}.bmp",
    "NEU-DET parts": lambda c, k: f"{'train' if k < 3 else 'validation'}/images/{c}/{c}_{k}.bmp",
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_neu_layout_is_the_same_data_set(tmp_path, layout):
    for c, name in enumerate(NEU_CLASSES):
        for k in NUMBERS:
            save(tmp_path / "neu" / LAYOUTS[layout](name, k), picture(100 * c + k))
            save(tmp_path / "reference" / LAYOUTS["official"](name, k), picture(100 * c + k))
    found = load_dataset(config("neu_cls", tmp_path / "neu", image_size=12), tmp_path / "cache")
    assert found.classes == NEU_CLASSES and found.plates is None and found.name == "neu_cls"
    assert found.names == tuple(f"{name}_{k}" for name in NEU_CLASSES for k in NUMBERS)
    assert found.labels.tolist() == np.repeat(np.arange(6), 3).tolist() and found.labels.dtype == np.int64
    assert np.array_equal(found.images, [picture(100 * c + k) for c in range(6) for k in NUMBERS])
    # one content whatever the layout, so that runs on two copies share their ids
    reference = load_dataset(config("neu_cls", tmp_path / "reference", image_size=12), tmp_path / "cache")
    assert found.content == reference.content


def test_neu_folder_spellings(tmp_path):
    for k, spellings in enumerate(NEU_SPELLINGS.values()):
        for j, spelling in enumerate(spellings):
            save(tmp_path / "neu" / spelling.upper() / f"img_{j}.png", picture(10 * k + j))
    for c, spelling in (("rolled-in_scale", "rolled_in_scale"), ("pitted_surface", "Pitted-Surface")):
        save(tmp_path / "neu" / spelling / f"{NEU_CLASSES.index(c)}.png", picture(500 + len(spelling)))
    found = load_dataset(config("neu_cls", tmp_path / "neu", image_size=8), tmp_path / "cache")
    counts = dict(zip(found.classes, np.bincount(found.labels).tolist(), strict=True))
    assert counts == {c: len(s) + (c in ("rolled-in_scale", "pitted_surface")) for c, s in NEU_SPELLINGS.items()}
    # a number alone is NEU's where the folder gives the class; img_0 is not
    assert {"rolled-in_scale_4", "pitted_surface_3", "crazing/img_0"} <= set(found.names)


def neu_of_one(root: Path) -> Path:
    for c, name in enumerate(NEU_CLASSES):
        save(root / name / f"{name}_1.png", picture(c))
    return root


def test_neu_name_and_folder_must_agree(tmp_path):
    root = neu_of_one(tmp_path / "neu")
    save(root / "crazing" / "Sc_7.png", picture(9))
    with pytest.raises(UserError, match=r"Sc_7\.png: the name says scratches, the folder crazing"):
        load_dataset(config("neu_cls", root), tmp_path / "cache")


def test_neu_second_copy_is_left_out_and_a_second_image_of_a_name_refused(tmp_path, caplog):
    root = neu_of_one(tmp_path / "neu")
    (root / "again").mkdir()
    shutil.copy(root / "crazing" / "crazing_1.png", root / "again" / "Cr_1.png")
    with caplog.at_level(logging.WARNING):
        assert len(load_dataset(config("neu_cls", root), tmp_path / "cache").names) == 6
    assert "1 second copies" in caplog.text
    save(root / "again" / "Cr_1.png", picture(99))
    with pytest.raises(UserError, match=r"different images are all called crazing_1: .*again/Cr_1\.png"):
        load_dataset(config("neu_cls", root), tmp_path / "cache")


def test_neu_numbers_that_count_within_parts_keep_both_images(tmp_path):
    root = neu_of_one(tmp_path / "neu")
    save(root / "train" / "patches" / "5.png", picture(50))
    save(root / "test" / "patches" / "5.png", picture(51))
    names = load_dataset(config("neu_cls", root), tmp_path / "cache").names
    assert {"train/patches/5.png", "test/patches/5.png", "patches_1"} <= set(names)


def test_neu_without_a_class_says_which(tmp_path, caplog):
    root = neu_of_one(tmp_path / "neu")
    with caplog.at_level(logging.WARNING):
        load_dataset(config("neu_cls", root), tmp_path / "cache")
    assert "300 images a class, here are crazing 1" in caplog.text
    shutil.rmtree(root / "patches")
    with pytest.raises(UserError, match="no images of patches; expected files such as"):
        load_dataset(config("neu_cls", root), tmp_path / "cache")


def test_neu_root_from_environment_else_beside_the_repository_else_an_error(tmp_path, monkeypatch):
    elsewhere = neu_of_one(tmp_path / "elsewhere")
    monkeypatch.setenv("STEELDEFECT_NEU_DIR", str(elsewhere))
    by_variable = load_dataset(config("neu_cls", None), tmp_path / "cache")
    assert by_variable.images.shape == (6, 200, 200)
    monkeypatch.setenv("STEELDEFECT_NEU_DIR", str(tmp_path / "gone"))
    with pytest.raises(UserError, match=r"STEELDEFECT_NEU_DIR=.*gone: no such folder"):
        load_dataset(config("neu_cls", None), tmp_path / "cache")
    monkeypatch.delenv("STEELDEFECT_NEU_DIR")
    monkeypatch.setattr(layouts, "__file__", str(tmp_path / "repository" / "steeldefect" / "data" / "layouts.py"))
    with pytest.raises(UserError, match=r"dataset\.root=null.*STEELDEFECT_NEU_DIR.*dataset=rendered"):
        load_dataset(config("neu_cls", None), tmp_path / "cache")
    shutil.copytree(elsewhere, tmp_path / "shared" / "data" / "neu-cls")
    assert load_dataset(config("neu_cls", None, image_size=None), tmp_path / "cache").content == by_variable.content


def test_neu_itself(tmp_path, neu_dir, caplog):
    with caplog.at_level(logging.WARNING):
        found = load_dataset(config("neu_cls", neu_dir), tmp_path)
    assert found.images.shape == (1800, 200, 200) and found.images.dtype == np.uint8
    assert np.bincount(found.labels).tolist() == [300] * 6
    assert found.names[:2] == ("crazing_1", "crazing_2") and found.names[-1] == "scratches_300"
    # known by measurement: two names, one image; both stay
    one, other = (found.images[found.names.index(name)] for name in ("patches_101", "patches_105"))
    assert np.array_equal(one, other) and not caplog.text


def test_folder_a_class_with_mixed_sizes_and_endings(tmp_path):
    ramp = np.tile(np.linspace(0, 255, 60).astype(np.uint8), (30, 1))
    for k, ending in enumerate(("jpg", "JPEG", "png", "Bmp", "tif", "TIFF")):
        save(tmp_path / "data" / "b" / f"x{k}.{ending}", ramp[:, : 60 - k])
    for k in (10, 9):
        save(tmp_path / "data" / "a" / f"x{k}.png", ramp)
    found = load_dataset(config("image_folder", tmp_path / "data", image_size=20), tmp_path / "cache")
    assert found.classes == ("a", "b") and found.images.shape == (8, 20, 20)
    assert found.names == ("a/x9", "a/x10", *(f"b/x{k}" for k in range(6)))
    # a ramp stays a ramp whatever the format
    assert (np.abs(found.images.astype(int) - np.linspace(6, 249, 20)) < 25).all()


def test_parts_are_read_as_one_set_and_names_stay_unique(tmp_path, caplog):
    root = tmp_path / "data"
    for k, path in enumerate(("train/a/1.png", "Valid/a/1.png", "test/b/1.png", "train/b/2.png", "train/b/2.bmp")):
        save(root / path, picture(k))
    (root / "test" / "a").mkdir()
    shutil.copy(root / "train" / "b" / "2.png", root / "test" / "b" / "2.png")
    (root / "readme.txt").write_text("notes")
    with caplog.at_level(logging.WARNING):
        found = load_dataset(config("image_folder", root, image_size=12), tmp_path / "cache")
    assert found.names == ("Valid/a/1.png", "train/a/1.png", "b/1", "b/2.bmp", "b/2.png")
    assert "1 second copies" in caplog.text and "readme.txt" in caplog.text


def in_parts(root: Path, *parts: str) -> Path:
    for k, part in enumerate(parts):
        for c, name in enumerate(("bad", "good")):
            save(root / part / name / f"{k}.png", picture(10 * c + k))
    return root


@pytest.mark.parametrize(
    ("folders", "parts"),
    [
        (("Training", "Test"), {"train", "test"}),
        (("train", "eval"), {"train", "test"}),
        (("training", "dev", "Evaluation"), {"train", "validation", "test"}),
        (("training", "val", "testing"), {"train", "validation", "test"}),
    ],
)
def test_parts_by_their_usual_names(tmp_path, caplog, folders, parts):
    root = in_parts(tmp_path / "data", *folders)
    with caplog.at_level(logging.WARNING):
        found = load_dataset(config("image_folder", root, image_size=12), tmp_path / "cache")
    assert len(found.names) == 2 * len(folders) and set(found.parts) == parts and not caplog.text


def test_a_part_of_unknown_name_is_refused(tmp_path):
    root = in_parts(tmp_path / "data", "train", "test", "batch 3")
    with pytest.raises(UserError, match=r"class folders lie in batch 3, beside test, train, .* rename to train, valid"):
        load_dataset(config("image_folder", root, image_size=12), tmp_path / "cache")


@pytest.mark.parametrize("name", ["test", "testing", "eval"])
def test_class_called_test_is_a_class(tmp_path, name):
    root = two_classes(tmp_path / "data")
    save(root / name / "1.png", picture(77))
    if name != "test":
        save(root / name / "inner" / "1.png", picture(78))
    found = load_dataset(config("image_folder", root, image_size=8), tmp_path / "cache")
    assert set(found.classes) == {"bad", "good", name} and len(found.names) == 7 and found.parts is None


def test_images_that_lie_too_deep_are_counted(tmp_path, caplog):
    root = two_classes(tmp_path / "data")
    for k in range(4):
        save(root / "bad" / "coil 7" / ("" if k else "deeper") / f"{k}.png", picture(70 + k))
    (root / "bad" / "coil 7" / "._1.png").touch()
    (root / "bad" / "loop").symlink_to(root / "bad")
    with caplog.at_level(logging.WARNING):
        assert len(load_dataset(config("image_folder", root, image_size=12), tmp_path / "cache").names) == 6
    assert "4 images in bad/coil 7 are not read: images lie directly in the folder of their class" in caplog.text


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("Gr\u00fcn", r"Gr\u00fcn and gr\u00fcn differ in case only: rename one"),
        ("gru\u0308n", r"gru\\u0308n.* and .*gr\\xfcn.*rename one"),
    ],
)
def test_classes_that_are_spelt_in_two_ways_are_refused(tmp_path, spelling, message):
    root = in_parts(tmp_path / "data", "train", "test")
    save(root / "train" / "gr\u00fcn" / "1.png", picture(1))
    expected = load_dataset(config("image_folder", root, image_size=12), tmp_path / "cache")
    assert "gr\u00fcn" in expected.classes
    save(root / "test" / spelling / "2.png", picture(2))
    with pytest.raises(UserError, match=message):
        load_dataset(config("image_folder", root, image_size=12), tmp_path / "cache")


def test_one_image_under_two_labels_is_told_and_copies_of_a_class_are_counted(tmp_path, caplog):
    root = two_classes(tmp_path / "data")
    shutil.copy(root / "bad" / "1.png", root / "bad" / "again.png")
    with caplog.at_level(logging.INFO):
        load_dataset(config("image_folder", root, image_size=12), tmp_path / "cache")
    assert "1 images are byte for byte copies of another of their class" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    shutil.copy(root / "bad" / "2.png", root / "good" / "other.png")
    with caplog.at_level(logging.WARNING):
        load_dataset(config("image_folder", root, image_size=12), tmp_path / "cache")
    assert "1 images lie in more than one class, byte for byte (bad/2.png and good/other.png)" in caplog.text


def test_stems_that_look_like_other_names_stay_unique(tmp_path):
    root = two_classes(tmp_path / "data")
    for k, name in enumerate(("a.jpg.png", "a.jpg", "a.png")):
        save(root / "good" / name, picture(k))
    names = load_dataset(config("image_folder", root, image_size=8), tmp_path / "cache").names
    assert len(set(names)) == len(names) == 9 and "good/1" in names


def test_names_that_are_not_utf8_are_refused_before_anything_is_read(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / name / "1.png")
    os.rename(os.fsencode(tmp_path / "a" / "1.png"), os.fsencode(tmp_path / "a") + b"/Oberfl\xe4che.png")  # noqa: PTH104
    with pytest.raises(UserError, match=r"Oberfl\\xe4che.png': its name is not UTF-8"):
        load_dataset(
            {"name": "image_folder", "root": str(tmp_path), "image_size": 8, "max_pixels": 10**6}, tmp_path / "cache"
        )


def test_natural_order():
    assert sorted(["a_10", "a_2", "b_1", "a_02", "a"], key=natural_key) == ["a", "a_02", "a_2", "a_10", "b_1"]


def bomb(path: Path, width: int, height: int) -> None:
    """A PNG that claims width x height pixels and holds none."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"")
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (body, data)]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [8_000, 12_000, 60_000])
def test_decompression_bomb_is_refused_before_decoding(tmp_path, side):
    root = two_classes(tmp_path / "data")
    bomb(root / "good" / "bomb.png", side, side)
    with pytest.raises(UserError, match=r"1 of 7 images cannot be read: good/bomb\.png \(.*pixels"):
        load_dataset(config("image_folder", root, image_size=8), tmp_path / "cache")


def test_max_pixels_is_a_key(tmp_path):
    root = two_classes(tmp_path / "data")
    with pytest.raises(UserError, match=r"12 x 12 pixels, more than dataset\.max_pixels=143"):
        load_dataset(config("image_folder", root, image_size=8, max_pixels=143), tmp_path / "cache")


def test_bad_files_are_listed_by_name_and_counted(tmp_path):
    root = two_classes(tmp_path / "data")
    whole = save(root / "good" / "large.jpg", picture(3, 200)).read_bytes()
    (root / "good" / "large.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "bad" / "text.png").write_text("not an image")
    (root / "bad" / "none.bmp").touch()
    (root / "bad" / "zz.png").write_bytes((root / "bad" / "1.png").read_bytes()[:60])
    with pytest.raises(UserError) as error:
        load_dataset(config("image_folder", root, image_size=8), tmp_path / "cache")
    message = str(error.value)
    assert "4 of 10 images cannot be read" in message and message.endswith("and 1 more; mend or remove")
    assert "bad/text.png (not an image)" in message and "bad/none.bmp (not an image)" in message
    assert not list((tmp_path / "cache").iterdir())


def test_lost_link_is_a_bad_file(tmp_path):
    root = two_classes(tmp_path / "data")
    (root / "good" / "x.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(UserError, match=r"good/x\.png \(.*No such file"):
        load_dataset(config("image_folder", root, image_size=8), tmp_path / "cache")


def test_folders_that_hold_no_data_set(tmp_path):
    root, cache = tmp_path / "data", tmp_path / "cache"
    cases = [(None, r"dataset\.root=null: give"), (root, r"dataset\.root=.*data: no such folder")]
    for given, message in cases:
        with pytest.raises(UserError, match=message):
            load_dataset(config("image_folder", given), cache)
    root.mkdir()
    with pytest.raises(UserError, match="no class folders"):
        load_dataset(config("image_folder", root), cache)
    with pytest.raises(UserError, match="no images of crazing, inclusion"):
        load_dataset(config("neu_cls", root), cache)
    save(root / "only" / "1.png", picture(0))
    with pytest.raises(UserError, match=r"one class only \(only\)"):
        load_dataset(config("image_folder", root), cache)
    (root / "void").mkdir()
    with pytest.raises(UserError, match="in class folder void"):
        load_dataset(config("image_folder", root), cache)
    archive = tmp_path / "neu.zip"
    archive.touch()
    with pytest.raises(UserError, match=r"neu\.zip: not a folder \(an archive must be unpacked first\)"):
        load_dataset(config("image_folder", archive), cache)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 0}, "dataset.image_size=0"),
        ({"image_size": None}, "dataset.image_size=null"),
        ({"image_size": True}, "dataset.image_size=True"),
        ({"max_pixels": -1}, "dataset.max_pixels=-1"),
        ({"name": "neucls"}, "did you mean 'neu_cls'"),
    ],
)
def test_refuses_keys_out_of_range(tmp_path, change, message):
    root = two_classes(tmp_path / "data")
    with pytest.raises(UserError) as error:
        load_dataset(config("image_folder", root) | change, tmp_path / "cache")
    assert message in str(error.value)


def test_unknown_files_are_counted_in_one_warning(tmp_path, caplog):
    root = two_classes(tmp_path / "data")
    for name in ("bad/notes.txt", "good/1.xml", "good/Thumbs.db", "loose.png", ".DS_Store", "good/._1.png"):
        (root / name).write_text("?")
    (root / "good" / "inner").mkdir()
    with caplog.at_level(logging.WARNING):
        assert len(load_dataset(config("image_folder", root, image_size=8), tmp_path / "cache").names) == 6
    assert len(caplog.records) == 1 and "5 files or folders ignored" in caplog.text


@pytest.mark.parametrize("name", ["image_folder", "neu_cls"])
def test_links_that_loop_or_lead_out_are_not_followed(tmp_path, name):
    root = (two_classes if name == "image_folder" else neu_of_one)(tmp_path / "data")
    first = next(path for path in root.iterdir())
    expected = load_dataset(config(name, root, image_size=8), tmp_path / "cache").content
    (root / "up").symlink_to(root)
    (root / "further_up").symlink_to(tmp_path)
    (first / "loop").symlink_to(first)
    (root / "itself").symlink_to(root / "itself")
    for link in ("aa_twice", "zz_twice"):
        (root / link).symlink_to(first)
    # a link sorts before or behind what it points at: either way the folder is read once
    assert load_dataset(config(name, root, image_size=8), tmp_path / "cache").content == expected


def test_rendered_comes_with_plates_and_is_drawn_once(tmp_path, monkeypatch):
    from steeldefect.data import rendered

    dataset = {"name": "rendered", "root": None, "image_size": 24, "scenes": None, "per_class": 5, "seed": 3}
    first = load_dataset(dataset, tmp_path)
    images, labels, plates, names = rendered.render(5, 24, 3)
    assert np.array_equal(first.images, images) and first.names == names and first.classes == NEU_CLASSES
    assert np.array_equal(first.labels, labels) and np.array_equal(first.plates, plates)
    monkeypatch.setattr(rendered, "render", lambda **_: pytest.fail("drawn again"))
    again = load_dataset(dataset, tmp_path)
    assert np.array_equal(again.plates, plates) and again.plates.dtype == np.int64 and again.content == first.content
    monkeypatch.undo()
    assert load_dataset(dataset | {"seed": 4}, tmp_path).content != first.content
