import csv
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from steeldefect.data.audit import SUMMARY, Audit, audit, summary_rows, write_audit
from steeldefect.data.known import known_sets, match, pack, thumbnails, unpack
from steeldefect.data.layouts import NEU_CLASSES, natural_key
from steeldefect.data.overlaps import Settings, canonical_scenes
from steeldefect.data.rendered import render
from steeldefect.data.scenes import PAIRS, SCENES, SceneTable, blind, overlapping_share, scenes_for
from steeldefect.data.sources import ImageSet, load_dataset
from steeldefect.report.audit_figures import gallery, histogram
from steeldefect.runs.errors import UserError
from steeldefect.runs.prepare import _data, _frozen
from steeldefect.runs.store import MANIFEST
from tests.conftest import ROOT

SETTINGS = Settings(null_pairs=1000)


@pytest.fixture(scope="module")
def rendered() -> ImageSet:
    """Rendered crops whose plates are forgotten, as of a folder of files."""
    images, labels, _, names = render(per_class=10, image_size=64, seed=1)
    return ImageSet(images, labels, names, NEU_CLASSES, "content", None, "image_folder")


@pytest.fixture(scope="module")
def audited(rendered: ImageSet) -> Audit:
    return audit(rendered, SETTINGS)


@pytest.fixture(scope="module")
def neu(neu_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    cache = tmp_path_factory.mktemp("cache")
    return load_dataset({"name": "neu_cls", "root": str(neu_dir), "image_size": 200}, cache)


def finish(made: Audit, folder: Path) -> None:
    folder.mkdir(parents=True)
    write_audit(made, folder)
    (folder / "manifest.json").write_text("{}")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def shuffled(images: ImageSet, order: np.ndarray) -> ImageSet:
    names = tuple(images.names[k] for k in order)
    return replace(images, images=images.images[order], labels=images.labels[order], names=names)


def test_the_first_source_that_there_is_counts(rendered: ImageSet, audited: Audit, tmp_path: Path) -> None:
    assert scenes_for(rendered, {"scenes": None}, tmp_path) is None
    finish(audited, tmp_path / "scenes" / "abc")
    found = scenes_for(rendered, {"scenes": None}, tmp_path)
    assert found is not None and found.source == "audit:abc"
    plates = np.arange(len(rendered.names)) // 2 + 5
    with_plates = replace(rendered, plates=plates)
    found = scenes_for(with_plates, {}, tmp_path)
    assert found is not None and found.source == "plates"
    assert np.array_equal(found.scenes, plates - 5)
    table = tmp_path / "mine.csv"
    table.write_text("image,scene\n" + "".join(f"{name},one\n" for name in rendered.names))
    found = scenes_for(with_plates, {"scenes": str(table)}, tmp_path)
    assert found is not None and found.source == "csv"
    assert not found.scenes.any()


def test_an_audit_finds_the_plates(audited: Audit) -> None:
    _, _, plates, names = render(per_class=10, image_size=64, seed=1)
    plate_of = dict(zip(names, plates, strict=True))
    joined = [(audited.names[a], audited.names[b]) for a, b in audited.overlaps.pairs]
    assert len(joined) > 20
    assert all(plate_of[a] == plate_of[b] for a, b in joined)


def test_an_audit_serves_other_orders_and_sizes_of_its_images_alone(
    rendered: ImageSet, audited: Audit, tmp_path: Path
) -> None:
    finish(audited, tmp_path / "scenes" / "abc")
    order = np.random.default_rng(0).permutation(len(rendered.names))
    small = np.stack(
        [np.asarray(Image.fromarray(one).resize((32, 32), Image.Resampling.BOX)) for one in rendered.images]
    )
    other = shuffled(replace(rendered, images=small), order)
    found = scenes_for(other, {}, tmp_path)
    assert found is not None and found.pairs is not None
    of_name = dict(zip(audited.names, audited.scenes.tolist(), strict=True))
    assert np.array_equal(found.scenes, canonical_scenes(np.array([of_name[name] for name in other.names])))
    named = {tuple(sorted((other.names[a], other.names[b]))) for a, b in found.pairs}
    assert named == {tuple(sorted((row["a"], row["b"]))) for row in rows(tmp_path / "scenes" / "abc" / PAIRS)}

    fewer = shuffled(rendered, np.arange(len(rendered.names) - 1))
    assert scenes_for(fewer, {}, tmp_path) is None
    changed = rendered.images.copy()
    changed[7] = 255 - changed[7]
    assert scenes_for(replace(rendered, images=changed), {}, tmp_path) is None


def test_an_audit_is_found_though_its_files_were_renamed(rendered: ImageSet, audited: Audit, tmp_path: Path) -> None:
    finish(audited, tmp_path / "scenes" / "abc")
    (tmp_path / "scenes" / "abc" / MANIFEST).write_text(json.dumps({"identity": {"dataset": rendered.content}}))
    renamed = replace(rendered, names=tuple(f"{name} (1)" for name in rendered.names))
    found, before = scenes_for(renamed, {}, tmp_path), scenes_for(rendered, {}, tmp_path)
    assert found is not None and before is not None and found.pairs is not None and before.pairs is not None
    assert found.scenes.tolist() == before.scenes.tolist() and found.pairs.tolist() == before.pairs.tolist()
    # other files of other names are not these
    assert scenes_for(replace(renamed, content="another"), {}, tmp_path) is None


def test_a_damaged_audit_of_other_images_is_passed_over(
    rendered: ImageSet, audited: Audit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    finish(audited, tmp_path / "scenes" / "abc")
    finish(audited, tmp_path / "scenes" / "aaa")
    table = tmp_path / "scenes" / "aaa" / SCENES
    table.write_text(table.read_text().replace(",", ";"))
    assert scenes_for(rendered, {}, tmp_path) is not None
    assert f"{table.parent}: damaged" in caplog.text


def test_a_copy_is_of_the_scene_of_its_original(
    rendered: ImageSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = rendered.images.copy()
    images[7], images[9] = images[2], images[2]
    table = tmp_path / "scenes.csv"
    lines = [f"{name},{k // 2}" for k, name in enumerate(rendered.names)]
    table.write_text("\n".join(["image,scene", *lines]))
    found = scenes_for(replace(rendered, images=images), {"scenes": str(table)}, tmp_path)
    assert found is not None
    # images 2 and 3, 6 and 7, 8 and 9 become one scene
    assert len({found.scenes[k] for k in (2, 3, 6, 7, 8, 9)}) == 1
    assert len(np.unique(found.scenes)) == 30 - 2 and "2 images are copies of one of another scene" in caplog.text
    assert scenes_for(rendered, {"scenes": str(table)}, tmp_path).id != found.id


def test_classes_that_an_audit_cannot_see_into_are_told(
    rendered: ImageSet, audited: Audit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [
        {"class": "dark", "threshold": "1.7010"},
        {"class": "grey", "threshold": "0.0670"},
        {"class": "all", "threshold": "1.7010"},
    ]
    assert blind(rows) == ["dark"]
    finish(audited, tmp_path / "scenes" / "abc")
    (tmp_path / "scenes" / "abc" / MANIFEST).write_text(json.dumps({"summary": {"classes": rows}}))
    assert scenes_for(rendered, {}, tmp_path) is not None
    assert "could not tell overlaps in dark" in caplog.text


@pytest.mark.parametrize("ground", ["noise", "clipped"])
def test_scratches_on_black_are_not_called_clean(ground: str) -> None:
    """Two crops of each of ten plates: found on a field with noise; on one that is black throughout that cannot be told."""
    rng = np.random.default_rng(0)
    crops = []
    for _ in range(10):
        plate = rng.normal(90 if ground == "noise" else -60, 12, (96, 96))
        for _ in range(4):
            row, column, length = rng.integers(8, 88), rng.integers(4, 40), rng.integers(20, 50)
            plate[row : row + 2, column : column + length] += 150
        plate = plate.clip(0, 255).round().astype(np.uint8)
        crops += [plate[:64, :64], plate[12:76, 8:72]]
    images = np.stack(crops)
    names, scenes = tuple(f"plate/{k}" for k in range(20)), np.arange(20) // 2
    made = audit(ImageSet(images, np.zeros(20, np.int64), names, ("plate",), "", None, ""), SETTINGS, threads=1)
    linked = sum(made.scenes[2 * k] == made.scenes[2 * k + 1] for k in range(10))
    assert len(np.unique(scenes)) == 10
    assert linked == 10 if ground == "noise" else linked == 10 or blind(summary_rows(made)) == ["plate"]


def test_audits_that_disagree_are_named(rendered: ImageSet, audited: Audit, tmp_path: Path) -> None:
    finish(audited, tmp_path / "scenes" / "abc")
    finish(replace(audited, scenes=np.arange(len(audited.names))), tmp_path / "scenes" / "def")
    with pytest.raises(UserError, match=r"abc and .*def disagree.*dataset\.scenes="):
        scenes_for(rendered, {}, tmp_path)


def test_an_audit_is_the_same_bytes_in_any_order(rendered: ImageSet, audited: Audit, tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(len(rendered.names))
    finish(audited, tmp_path / "one")
    finish(audit(shuffled(rendered, order), SETTINGS, threads=1), tmp_path / "two")
    for path in sorted((tmp_path / "one").iterdir()):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name
    names = [row["image"] for row in rows(tmp_path / "one" / SCENES)]
    assert names == sorted(names, key=natural_key)


def test_the_summary_adds_up(audited: Audit, tmp_path: Path) -> None:
    finish(audited, tmp_path / "one")
    summary = {row["class"]: row for row in rows(tmp_path / "one" / SUMMARY)}
    assert [*summary] == [*NEU_CLASSES, "across classes", "all"]
    assert int(summary["all"]["pairs_searched"]) == 60 * 59 // 2
    assert int(summary["all"]["pairs_found"]) == len(rows(tmp_path / "one" / PAIRS)) == len(audited.overlaps.findings)
    inside = [summary[name] for name in NEU_CLASSES]
    assert sum(int(row["images"]) for row in inside) == int(summary["all"]["images"]) == 60
    assert int(summary["all"]["scenes"]) == len(np.unique(audited.scenes))
    assert all(int(row["largest_scene"]) >= 1 for row in summary_rows(audited))


def test_the_figures_are_drawn_alike_twice(audited: Audit, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        histogram(audited, tmp_path / name / "histogram")
        gallery(audited, tmp_path / name / "gallery")
    drawn = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert drawn == ["gallery.png", "histogram.png", "histogram.svg"]
    for name in drawn:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_id_is_that_of_the_grouping() -> None:
    one, two = SceneTable(np.array([0, 0, 1]), "csv"), SceneTable(np.array([0, 1, 1]), "csv")
    assert one.id == SceneTable(np.array([0, 0, 1]), "plates").id
    assert one.id != two.id and len(one.id) == 12


def test_the_overlapping_share_counts_test_images_whose_scene_is_trained_on() -> None:
    table = SceneTable(np.array([0, 0, 1, 2, 2, 3]), "csv")
    assert overlapping_share(table, np.array([0, 3]), np.array([1, 2, 4, 5])) == 0.5
    assert overlapping_share(table, np.array([0, 1]), np.array([2, 3, 4, 5])) == 0


def test_fingerprints_hold_thumbnails_to_half_a_level(rendered: ImageSet) -> None:
    thumbs = thumbnails(rendered.images)
    assert thumbs[0, 9] == pytest.approx(rendered.images[0, 8:16, 8:16].mean(), abs=1e-3)
    packed = pack(thumbs)
    assert packed.dtype == np.uint8 and packed.shape == (60, 34)
    known, limits = unpack(packed)
    step = (thumbs.max(1) - thumbs.min(1) + 2) / 15
    assert np.all(np.abs(known - thumbs).max(1) <= step / 2 + 1e-3)
    assert np.all(limits < 2 + step)


def test_a_match_is_one_to_one(rendered: ImageSet) -> None:
    thumbs = thumbnails(rendered.images)
    packed = pack(thumbs)
    order = np.random.default_rng(2).permutation(60)
    assert np.array_equal(match(thumbs[order], packed), order)
    twice = thumbs[order].copy()
    twice[0] = twice[1]
    assert match(twice, packed) is None
    assert match(thumbs[:-1], packed) is None


def test_the_committed_table_holds_neu() -> None:
    known = {one.name: one for one in known_sets()}["neu_cls"]
    assert len(known.names) == len(set(known.names)) == len(known.fingerprints) == 1800
    assert all(name.rsplit("_", 1)[0] in NEU_CLASSES for name in known.names)
    # pairs stay within scenes, and every scene of several images is held together by them
    a, b = known.pairs.T
    assert np.array_equal(known.scenes[a], known.scenes[b])
    linked = np.unique(known.pairs)
    sizes = np.bincount(known.scenes)
    assert np.array_equal(np.flatnonzero(sizes[known.scenes] > 1), linked)
    copies = [known.names.index(name) for name in ("patches_101", "patches_105")]
    assert known.scenes[copies[0]] == known.scenes[copies[1]]


@pytest.mark.parametrize(
    ("layout", "options"), [("PNG", {"compress_level": 1}), ("BMP", {}), ("JPEG", {"quality": 75})]
)
@pytest.mark.parametrize("size", [200, 64])
def test_neu_is_known_under_any_name_format_order_and_size(
    neu: ImageSet, tmp_path: Path, layout: str, options: dict[str, int], size: int
) -> None:
    order = np.random.default_rng(0).permutation(len(neu.names))
    copies = []
    for one in neu.images[order]:
        packed = io.BytesIO()
        Image.fromarray(one).save(packed, layout, **options)
        copies.append(np.asarray(Image.open(packed).resize((size, size), Image.Resampling.LANCZOS)))
    names = tuple(f"image_{k}" for k in range(len(order)))
    other = replace(neu, images=np.stack(copies), labels=neu.labels[order], names=names, name="image_folder")
    found = scenes_for(other, {"scenes": None}, tmp_path)
    original = scenes_for(neu, {"scenes": None}, tmp_path)
    assert found is not None and original is not None
    assert found.source == original.source == "known:neu_cls"
    assert np.array_equal(found.scenes, canonical_scenes(original.scenes[order]))


def test_neu_with_one_other_image_is_not_known(neu: ImageSet, tmp_path: Path) -> None:
    changed = np.array(neu.images)
    changed[1234] = np.roll(changed[0], 90, axis=0)
    assert scenes_for(replace(neu, images=changed), {}, tmp_path) is None
    assert scenes_for(shuffled(neu, np.arange(1799)), {}, tmp_path) is None


def test_most_test_images_of_a_random_split_of_neu_are_trained_on(neu: ImageSet, tmp_path: Path) -> None:
    table = scenes_for(neu, {}, tmp_path)
    assert table is not None
    rng = np.random.default_rng(0)
    test = np.concatenate([rng.permutation(np.flatnonzero(neu.labels == label))[:90] for label in range(6)])
    assert overlapping_share(table, np.setdiff1d(np.arange(1800), test), test) > 0.65


def test_the_verb_leaves_an_audit_that_is_found_again(tmp_path: Path) -> None:
    """One audit for every way of fitting: surfaces are compared in the whole picture, without its reflections."""
    images, _, _, names = render(per_class=8, image_size=48, seed=3)
    for name, image in zip(names, images, strict=True):
        folder = tmp_path / "data" / name.rsplit("_p", 1)[0]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[8:40]).save(folder / f"{name}.png")
    dataset = {"name": "image_folder", "root": str(tmp_path / "data"), "image_size": 48}
    overrides = [f"dataset={dataset['name']}", f"dataset.root={dataset['root']}", "dataset.image_size=48"]
    command = [sys.executable, "experiments/audit.py", *overrides, f"artifacts={tmp_path / 'artifacts'}", "logger=csv"]
    for fit in ("stretch", "pad"):
        done = subprocess.run([*command, f"dataset.fit={fit}"], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "all: " in done.stdout + done.stderr
    (folder,) = (tmp_path / "artifacts" / "scenes").glob("[0-9a-f]*")
    made = {path.name for path in folder.iterdir()}
    assert {"pairs.csv", "scenes.csv", "summary.csv", "distinctness.svg", "gallery.png", "manifest.json"} <= made
    loaded = load_dataset(dataset, tmp_path / "cache")
    found = scenes_for(loaded, dataset, tmp_path / "artifacts")
    assert found is not None and found.source == f"audit:{folder.name}"
    padded, same = _data(_frozen(dataset | {"scenes": None, "fit": "pad"}), tmp_path / "artifacts")
    assert not np.array_equal(padded.images, loaded.images)
    assert same is not None and same.source == found.source and same.id == found.id
