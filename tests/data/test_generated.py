"""gan=folder: what goes out for a generator that is not in here, and what may come back."""

import csv
import importlib
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from steeldefect.data.bank import read_bank
from steeldefect.data.generated import in_turns
from steeldefect.runs.context import Context
from steeldefect.runs.errors import UserError
from steeldefect.runs.prepare import prepare
from tests.conftest import Compose

Run = Callable[..., Context]


@pytest.fixture
def run(tiny: Compose) -> Run:
    """A verb by its own task; the context that it had."""

    def go(verb: str, *overrides: str) -> Context:
        cfg = tiny(verb, *overrides)
        importlib.import_module(f"experiments.{verb}").main.__wrapped__(cfg)
        return prepare(cfg)

    return go


def exported(run: Run, tmp_path: Path, *overrides: str) -> tuple[Context, Path]:
    context = run("split", "export=png", *overrides)
    k = context.settings["real_per_class"]
    return context, tmp_path / "artifacts" / "exports" / f"training-{context.split_id}{'' if k is None else f'-{k}'}"


def generated(source: Path, target: Path, copies: int = 8, size: int = 32) -> Path:
    """What a generator might make: each training image with a noise of its own, and the note of its split."""
    noise = np.random.default_rng(0)
    for path in sorted(source.glob("*/*.png")):
        (target / path.parent.name).mkdir(parents=True, exist_ok=True)
        image = np.asarray(Image.open(path).resize((size, size)), np.int16)
        for k in range(copies):
            made = np.clip(image + noise.integers(-9, 10, image.shape), 0, 255).astype(np.uint8)
            Image.fromarray(made).save(target / path.parent.name / f"{path.stem}_{k}.png")
    shutil.copy(source / "split.json", target)
    return target


def folder(root: Path, *more: str) -> list[str]:
    return ["gan=folder", "gan.name=other", f"gan.root={root}", *more]


def test_the_export_holds_the_training_images_alone(run: Run, tmp_path: Path) -> None:
    context, out = exported(run, tmp_path)
    files = {path.relative_to(out).as_posix(): np.asarray(Image.open(path)) for path in out.glob("*/*.png")}
    wanted = context.images.images[context.real]
    assert len(files) == len(wanted)
    labels = dict(json.loads((out / "dataset.json").read_text())["labels"])
    for index, (name, image) in zip(context.real, sorted(files.items(), key=lambda item: item[0][-10:]), strict=True):
        assert np.array_equal(image, context.images.images[index])
        assert labels[name] == context.images.labels[index] == context.images.classes.index(name.split("/")[0])
    names = dict(csv.reader((out / "names.csv").open()))
    assert sorted(names[name] for name in files) == sorted(context.images.names[k] for k in context.real)
    note = json.loads((out / "split.json").read_text())
    assert note["split"] == context.split_id and note["images"] == dict(
        zip(context.images.classes, context.real_counts, strict=True)
    )
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    exported(run, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_images_made_elsewhere_go_through_the_whole_comparison(run: Run, tmp_path: Path) -> None:
    _, out = exported(run, tmp_path)
    root = generated(out, tmp_path / "made")
    run("train_gan", *folder(root))
    context = run("synthesize", *folder(root))
    assert context.bank_id is not None
    images, labels = read_bank(context.store.folder("banks", context.bank_id), context.split_id)
    assert images.shape[1:] == (32, 32) and len(images) == 8 * len(context.real)
    counts = np.bincount(labels, minlength=6)
    assert counts.tolist() == [8 * n for n in context.real_counts]
    first = 6 * counts.min()
    assert (labels[:first] == np.arange(first) % 6).all()
    assert np.ptp(images, axis=(1, 2)).min() > 0

    cell = run("train_classifier", "classifier=small_cnn", "mix=org20", *folder(root))
    (record,) = (cell.store.root / "cells").glob("*/record.json")
    found = json.loads(record.read_text())
    assert found["gan"] == "other" and found["counts"]["synthetic"] == 4 * len(cell.real)
    assert "root" not in found["config"]["gan"] and str(tmp_path) not in record.read_text()

    run("evaluate_gan", *folder(root), "classifier@quality.classifier=small_cnn", "quality.feature_size=32")
    (record,) = (cell.store.root / "quality").glob("*/record.json")
    assert json.loads(record.read_text())["gan"] == "other"


def test_another_generator_s_images_are_another_arm(run: Run, tmp_path: Path) -> None:
    _, out = exported(run, tmp_path)
    root = generated(out, tmp_path / "made")
    first = run("train_gan", *folder(root))
    again = run("train_gan", *folder(root))
    assert first.gan_id == again.gan_id and first.bank_id == again.bank_id
    moved = shutil.move(root, tmp_path / "moved")
    assert run("train_gan", *folder(Path(moved))).bank_id == first.bank_id
    next(Path(moved).glob("*/*.png")).unlink()
    assert run("train_gan", *folder(Path(moved))).bank_id != first.bank_id


def test_files_smaller_than_the_real_images_are_not_enlarged_on_the_way(run: Run, tmp_path: Path) -> None:
    _, out = exported(run, tmp_path)
    root = generated(out, tmp_path / "made", size=16)
    run("train_gan", *folder(root, "gan.image_size=16"))
    context = run("synthesize", *folder(root, "gan.image_size=16"))
    assert context.generated is not None and context.bank_id is not None
    images, labels = read_bank(context.store.folder("banks", context.bank_id), context.split_id)
    first = sorted((root / context.images.classes[labels[0]]).glob("*.png"), key=lambda path: path.stem)[0]
    assert np.array_equal(images[0], np.asarray(Image.open(first)))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda root: (root / "split.json").unlink(), "no split.json"),
        (lambda root: shutil.rmtree(root / "scratches"), "the classes of the data set are"),
        (lambda root: shutil.rmtree(root), "gan.root=.*no such folder"),
        (lambda root: next(root.glob("*/*.png")).write_bytes(b"no image"), "cannot be read"),
    ],
)
def test_what_is_wrong_with_the_folder_is_said(
    run: Run, tmp_path: Path, damage: Callable[[Path], None], told: str
) -> None:
    _, out = exported(run, tmp_path)
    root = generated(out, tmp_path / "made", copies=1)
    damage(root)
    with pytest.raises(UserError, match=told):
        run("train_gan", *folder(root))


def test_a_generator_of_another_split_or_of_more_images_is_refused(run: Run, tmp_path: Path) -> None:
    _, out = exported(run, tmp_path)
    root = generated(out, tmp_path / "made", copies=1)
    with pytest.raises(UserError, match="may have seen images that this run tests on"):
        run("train_gan", *folder(root, "replicate=1"))
    with pytest.raises(UserError, match=r"real_per_class=None\), this run has those of .*real_per_class=3"):
        run("train_gan", *folder(root, "real_per_class=3"))
    few, out = exported(run, tmp_path, "real_per_class=3")
    assert run("train_gan", *folder(generated(out, tmp_path / "few"), "real_per_class=3")).real_counts == [3] * 6
    assert few.real_counts == [3] * 6


def test_held_out_images_among_the_generated_ones_are_refused_and_training_images_named(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    context, out = exported(run, tmp_path)
    root = generated(out, tmp_path / "made", copies=1)
    shutil.copy(next(out.glob("*/*.png")), root / "scratches" / "copy.png")
    with caplog.at_level(logging.WARNING):
        run("train_gan", *folder(root))
    assert "1 of the images are training images, unchanged" in caplog.text
    tested = context.split.test[0]
    Image.fromarray(np.asarray(context.images.images[tested])).save(root / "scratches" / "held.png")
    with pytest.raises(UserError, match=f"not for training here .{context.images.names[tested]}"):
        run("train_gan", *folder(root))


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_a_held_out_file_as_it_came_from_the_camera_is_found_whatever_its_shape(
    composed: Compose, tmp_path: Path, fit: str
) -> None:
    """Strips of 40 x 24, read at 32: at the generated images' own 24 pixels they would look like nothing known."""
    noise = np.random.default_rng(0)
    for name in ("bad", "good", "ugly"):
        for k in range(12):
            (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise.integers(0, 256, (24, 40), dtype=np.uint8)).save(
                tmp_path / "data" / name / f"{k}.png"
            )
    given = ["dataset=image_folder", f"dataset.root={tmp_path / 'data'}", "dataset.image_size=32", f"dataset.fit={fit}"]
    given += ["split=random", "scale=smoke", "logger=csv"]
    importlib.import_module("experiments.split").main.__wrapped__(composed("split", *given, "export=png"))
    (note,) = (tmp_path / "artifacts" / "exports").glob("*/split.json")
    root = generated(note.parent, tmp_path / "made", copies=1, size=24)
    train = importlib.import_module("experiments.train_gan").main.__wrapped__
    train(composed("train_gan", *given, *folder(root)))
    context = prepare(composed("train_gan", *given))
    held = context.images.names[context.split.test[0]]
    shutil.copy(tmp_path / "data" / f"{held}.png", root / "good" / "new.png")
    with pytest.raises(UserError, match=f"not for training here .{held}"):
        train(composed("train_gan", *given, *folder(root)))


def test_too_few_images_and_settings_that_do_not_fit_are_said(run: Run, tmp_path: Path) -> None:
    _, out = exported(run, tmp_path)
    root = generated(out, tmp_path / "made", copies=1)
    run("train_gan", *folder(root))
    run("synthesize", *folder(root))
    with pytest.raises(UserError, match=r"put more of them under gan\.root"):
        run("train_classifier", "classifier=small_cnn", "mix=org20", *folder(root))
    with pytest.raises(UserError, match="filter them there"):
        run("synthesize", *folder(root, "bank.filter=classifier"))
    with pytest.raises(UserError, match=r"gan\.root=null"):
        run("train_gan", "gan=folder")
    for taken in ("none", "edcgan"):
        with pytest.raises(UserError, match=f"gan.name={taken}: give the generator"):
            run("train_gan", *folder(root, f"gan.name={taken}"))
    with pytest.raises(UserError, match="export=jpg"):
        run("split", "export=jpg")


def test_classes_take_turns_until_they_are_used_up() -> None:
    labels = np.array([0, 0, 0, 0, 1, 2, 2])
    assert labels[in_turns(labels)].tolist() == [0, 1, 2, 0, 2, 0, 0]
    assert in_turns(labels).tolist() == [0, 4, 5, 1, 6, 2, 3]
