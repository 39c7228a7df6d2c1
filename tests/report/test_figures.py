import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from steeldefect.report import galleries
from steeldefect.report.arms import Arms, groups
from steeldefect.report.collect import collect
from steeldefect.report.contrasts import ContrastTable
from steeldefect.report.differences import FEWEST, contrast
from steeldefect.report.figures import (
    _difference,
    _share_line,
    differences_figure,
    gan_curves,
    samples_figure,
    synthetic_beside_real,
)
from steeldefect.report.write import DIFFERENCES, write_report
from tests.report.make_fixture import CLASSES, FIXTURE, GRID
from tests.report.test_report import GROUP


def images(seed: int, size: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (6, 3, size, size), dtype=np.uint8)


def both(path: Path) -> tuple[bytes, bytes]:
    return path.with_suffix(".svg").read_bytes(), path.with_suffix(".png").read_bytes()


def test_figures_are_the_same_bytes_again(tmp_path):
    history = {"epoch": np.arange(5), **{k: np.ones(5) for k in ("loss_d", "loss_g", "accuracy_real", "accuracy_fake")}}
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        samples_figure(images(0, 16), CLASSES, folder / "samples")
        synthetic_beside_real(images(0, 16), images(1, 8), CLASSES, folder / "beside")
        assert gan_curves({"edcgan r0 0a": history}, folder / "curves")
    for name in ("samples", "beside", "curves"):
        assert both(tmp_path / "one" / name) == both(tmp_path / "two" / name)
        assert b"<dc:date>" not in both(tmp_path / "one" / name)[0]


def test_a_share_without_a_figure_leaves_a_gap_in_the_line():
    collection = collect(FIXTURE)
    group = groups(collection.records)[0]
    classifier, shares = "mobilenet_v2", {"org100": 0.0, "org20": 0.8, "org0": 1.0}
    kept = [r for r in collection.records if (r["classifier"], r["mix"]) != (classifier, "org20")]
    panel = Figure().subplots()
    _share_line(panel, Arms(replace(collection, records=kept), group), classifier, "accuracy", shares, 0.0, 0)
    y = panel.get_lines()[0].get_ydata()
    assert np.isnan(y).tolist() == [False, True, False]


def test_a_difference_is_drawn_with_its_interval_and_hollow_where_pairs_are_few():
    arms = Arms(collect(FIXTURE), GROUP)
    one = contrast(arms, "mobilenet_v2", "org20", "org100", "accuracy")
    assert one.found.n_runs < FEWEST
    for number, n_runs in enumerate((one.found.n_runs, FEWEST)):
        panel = Figure().subplots()
        _difference(panel, 3, replace(one, found=replace(one.found, n_runs=n_runs)), 50.0)
        point, (ends,) = panel.get_lines()[0], panel.collections
        assert point.get_xdata() == pytest.approx(100 * one.found.mean) and point.get_ydata() == 3
        assert ends.get_segments()[0][:, 0] == pytest.approx([100 * one.found.low, 100 * one.found.high])
        assert (point.get_markerfacecolor() == "white") == (number == 0)
    panel = Figure().subplots()
    _difference(panel, 0, one, 2.0)
    assert panel.texts[0].get_text() == f"{100 * one.found.mean:+.1f}", "what lies beyond the edge is told"


def test_differences_alone_are_drawn_where_asked_for(tmp_path):
    write_report(collect(FIXTURE), tmp_path, GRID, tmp_path / "artifacts", "table3", figures=DIFFERENCES)
    drawn = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert drawn == {f"differences-{GROUP.slug}"} and not (tmp_path / "page.html").exists()
    assert f"(figures/differences-{GROUP.slug}.svg)" in (tmp_path / "report.md").read_text()
    none = ContrastTable(GROUP, "accuracy", ())
    assert not differences_figure(none, tmp_path / "none")


def test_sheets_show_every_image(tmp_path):
    """Six rows of three squares that alternate between black and white, found again in the picture."""
    squares = np.zeros((6, 3, 8, 8), np.uint8)
    squares[:, 1] = 255
    samples_figure(squares, CLASSES, tmp_path / "samples")
    picture = np.asarray(Image.open(tmp_path / "samples.png").convert("L"))
    dark = (picture < 10).mean(0) > 0.5
    assert np.count_nonzero(np.diff(dark.astype(int)) == 1) == 2
    rows = (picture[:, dark] < 10).mean(1) > 0.9
    assert np.count_nonzero(np.diff(np.r_[0, rows.astype(int)]) == 1) == 6


@pytest.mark.parametrize(
    ("dataset", "output", "shown"),
    [
        ("neu_cls", "artifacts/report", True),
        ("neu_cls", "experiments/results/table3", False),
        ("neu_cls", "artifacts/../results", False),
        ("image_folder", "elsewhere", False),
        ("rendered", "experiments/results/demo", True),
    ],
)
def test_where_photographs_may_go(tmp_path, dataset, output, shown):
    assert galleries.may_show(dataset, tmp_path / output, tmp_path / "artifacts") is shown


@pytest.fixture
def artifacts(tmp_path) -> Path:
    """The fixture's cells with a data set's cache, a split and a bank beside them."""
    root = tmp_path / "artifacts"
    shutil.copytree(FIXTURE, root)
    for folder in ("cache", "splits/5b0000000000", "banks/ba0000000000", "gans/6a0000000000"):
        (root / folder).mkdir(parents=True)
    # 12 images a class, whose grey level is their class; class by class, names in natural order
    gray = np.repeat(np.arange(6) * 40, 12).astype(np.uint8)
    np.save(root / "cache" / "da7ada7ada7a.npy", np.broadcast_to(gray[:, None, None], (72, 8, 8)))
    rows = [f"{name}_{k + 1},{name},{'test' if k == 0 else 'train'},0" for name in CLASSES for k in range(12)]
    (root / "splits/5b0000000000/split.csv").write_text("\n".join(["image,class,part,scene", *rows[::-1]]) + "\n")
    np.save(root / "banks/ba0000000000/images.npy", np.full((60, 8, 8), 7, np.uint8))
    np.save(root / "banks/ba0000000000/labels.npy", np.arange(60) % 6)
    (root / "gans/6a0000000000/history.csv").write_text(
        "epoch,loss_d,loss_g,accuracy_real,accuracy_fake\n0,1.0,0.7,0.5,0.5\n1,0.9,0.8,0.6,0.7\n"
    )
    return root


def test_images_come_from_the_cache_and_the_bank(artifacts):
    records = collect(artifacts).records
    real = galleries.real_images(records[0], artifacts)
    assert [np.unique(row).tolist() for row in real] == [[40 * c] for c in range(6)]
    assert (galleries.synthetic_images(records, artifacts) == 7).all()
    assert galleries.synthetic_images(records, artifacts / "cells") is None
    curves = galleries.histories(records, artifacts)
    assert list(curves) == ["edcgan r0 6a0000000000"]
    assert curves["edcgan r0 6a0000000000"]["loss_g"].tolist() == [0.7, 0.8]


def test_a_report_under_artifacts_has_them_and_another_has_none(artifacts, tmp_path):
    write_report(collect(artifacts), artifacts / "report", GRID, artifacts, "table3")
    write_report(collect(artifacts), tmp_path / "results", GRID, artifacts, "table3")
    inside = {path.name.split("-")[0] for path in (artifacts / "report" / "figures").iterdir()}
    outside = {path.name.split("-")[0] for path in (tmp_path / "results" / "figures").iterdir()}
    assert {"samples", "synthetic"} == inside - outside
    assert {"share", "confusion", "gan_curves.svg"} <= outside
    text = (tmp_path / "results" / "report.md").read_text()
    assert "photographs are shown in reports under artifacts only" in text
    for name in ("share", "confusion", "samples", "synthetic"):
        linked = f"figures/{name}-neu_cls-grouped-cpu-fixed_steps-edcgan.svg"
        assert linked in (artifacts / "report" / "report.md").read_text()


def test_rendered_images_are_drawn_where_no_cache_is(tmp_path):
    dataset = {
        "name": "rendered",
        "per_class": 4,
        "image_size": 16,
        "seed": 0,
        "difficulty": 0.6,
        "crops_per_plate": [1, 2],
    }
    record = {"dataset": "rendered", "classes": CLASSES, "config": {"dataset": dataset}}
    found = galleries.real_images(record, tmp_path)
    assert found.shape == (6, galleries.COLUMNS, 16, 16) and found[:, :4].std() > 5
    assert not list(tmp_path.iterdir())
