"""split=given: parts by date, coil or camera, from folders or a CSV."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from omegaconf import DictConfig

from steeldefect.runs.context import Context
from steeldefect.runs.errors import UserError
from steeldefect.runs.prepare import prepare
from tests.conftest import Compose
from tests.data.test_sources import picture, save

COUNTS = {"train": 6, "valid": 2, "test": 3}


def laid_out(root: Path, counts: dict[str, int] = COUNTS) -> Path:
    number = 0
    for part, count in counts.items():
        for name in ("dent", "scratch"):
            for k in range(count):
                save(root / part / name / f"{part}{k}.png", picture(number))
                number += 1
    return root


@pytest.fixture
def given(composed: Compose, tmp_path: Path) -> Compose:
    def cfg(*overrides: str) -> DictConfig:
        own = ("dataset=image_folder", "dataset.image_size=12", "scale=smoke", "logger=csv", "split=given")
        return composed("split", *own, *overrides)

    return cfg


def parts(context: Context) -> dict[str, list[str]]:
    found = context.split
    return {
        name: sorted(context.images.names[k] for k in indices)
        for name, indices in (("train", found.train), ("validation", found.validation), ("test", found.test))
    }


def test_folders_are_kept_as_they_are(given: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    context = prepare(given(f"dataset.root={laid_out(tmp_path / 'data')}"))
    assert {name: len(found) for name, found in parts(context).items()} == {"train": 12, "validation": 4, "test": 6}
    assert all(name.split("/")[1].startswith("valid") for name in parts(context)["validation"])
    assert all(name.split("/")[1].startswith("test") for name in parts(context)["test"])
    other = prepare(given(f"dataset.root={tmp_path / 'data'}", "replicate=3"))
    assert parts(other) == parts(context)
    assert "classes tested on fewer than 5 images: dent 3, scratch 3" in caplog.text


def test_images_by_class_and_part_are_told(given: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        prepare(given(f"dataset.root={laid_out(tmp_path / 'data')}"))
    for line in ("train: dent 6, scratch 6", "validation: dent 2, scratch 2", "test: dent 3, scratch 3"):
        assert line in caplog.messages


def test_folds_of_few_images_are_pooled(given: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = laid_out(tmp_path / "data")
    names = prepare(given(f"dataset.root={root}")).images.names
    scenes = tmp_path / "scenes.csv"
    scenes.write_text("\n".join(["image,scene", *(f"{name},{k}" for k, name in enumerate(names))]) + "\n")
    prepare(given(f"dataset.root={root}", f"dataset.scenes={scenes}", "split=grouped_cv"))
    assert "dent 4, scratch 4; replicates 0 to 2 together test every image once" in caplog.text


def test_without_a_validation_folder_validation_is_drawn_from_train(given: Compose, tmp_path: Path) -> None:
    root = laid_out(tmp_path / "data", {"train": 10, "test": 3})
    context = prepare(given(f"dataset.root={root}", "split.validation_fraction=0.2"))
    assert [len(found) for found in parts(context).values()] == [16, 4, 6]
    assert all("test" in name for name in parts(context)["test"])
    assert [
        len(found) for found in parts(prepare(given(f"dataset.root={root}", "split.validation_fraction=0"))).values()
    ] == [
        20,
        0,
        6,
    ]


def test_a_table_gives_the_parts_and_its_content_the_id(given: Compose, tmp_path: Path) -> None:
    root = laid_out(tmp_path / "data")
    first = prepare(given(f"dataset.root={root}"))
    table = tmp_path / "parts.csv"
    written = (first.store.folder("splits", first.split_id) / "split.csv").read_text()
    table.write_text(written)  # what a split leaves is such a table
    same = prepare(given(f"dataset.root={root}", f"split.parts={table}"))
    assert parts(same) == parts(first) and same.split_id == first.split_id
    moved = tmp_path / "elsewhere.csv"
    table.rename(moved)
    assert prepare(given(f"dataset.root={root}", f"split.parts={moved}")).split_id == first.split_id
    moved.write_text(written.replace("dent/train0,dent,train", "dent/train0,dent,test"))
    other = prepare(given(f"dataset.root={root}", f"split.parts={moved}"))
    assert other.split_id != first.split_id and "dent/train0" in parts(other)["test"]
    summary = json.loads((other.store.folder("splits", other.split_id) / "manifest.json").read_text())["summary"]
    assert (summary["train"], summary["test"]) == (11, 7)


def test_overlaps_between_given_parts_are_told(
    given: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = laid_out(tmp_path / "data")
    names = prepare(given(f"dataset.root={root}")).images.names
    scenes = tmp_path / "scenes.csv"
    twins = {"dent/test0": "coil", "dent/train0": "coil"}
    rows = [f"{name},{twins.get(name, number)}" for number, name in enumerate(names)]
    scenes.write_text("\n".join(["image,scene", *rows]) + "\n")
    context = prepare(given(f"dataset.root={root}", f"dataset.scenes={scenes}"))
    assert context.overlapping_share == pytest.approx(1 / 6)
    assert "split=given: 17% of the test images show the surface of a training image" in caplog.text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("image,teil\na,b\n", "no column part"),
        ("image,part\ndent/train0,train\n", "no part for 21 of 22 images"),
        (None, "split.parts=.*no such file"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(given: Compose, tmp_path: Path, text: str | None, told: str) -> None:
    root = laid_out(tmp_path / "data")
    if text is not None:
        (tmp_path / "parts.csv").write_text(text)
    with pytest.raises(UserError, match=told):
        prepare(given(f"dataset.root={root}", f"split.parts={tmp_path / 'parts.csv'}"))


def test_parts_that_cannot_be_used_are_said(given: Compose, tmp_path: Path) -> None:
    root = laid_out(tmp_path / "data")
    names = prepare(given(f"dataset.root={root}")).images.names
    table = tmp_path / "parts.csv"
    table.write_text("\n".join(["image,part", *(f"{name},hold" for name in names)]))
    with pytest.raises(UserError, match="is given to 'hold'; a part is one of train, validation, test"):
        prepare(given(f"dataset.root={root}", f"split.parts={table}"))
    table.write_text("\n".join(["image,part", *(f"{name},train" for name in names)]))
    with pytest.raises(UserError, match="part test holds no image of dent, scratch"):
        prepare(given(f"dataset.root={root}", f"split.parts={table}"))
    for name in ("dent", "scratch"):
        for k in range(4):
            save(tmp_path / "flat" / name / f"{k}.png", np.full((12, 12), 10 * k, np.uint8))
    with pytest.raises(UserError, match="do not lie in train and test folders"):
        prepare(given(f"dataset.root={tmp_path / 'flat'}"))
