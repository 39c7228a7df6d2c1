from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from steeldefect.data.audit_trials import Cut, cut_plates, growth_trials, pairs_of, recall_trial, shot_again
from steeldefect.data.candidates import across, within
from steeldefect.data.correlation import ncc, normalised, overlapping
from steeldefect.data.decode import Reading, decode
from steeldefect.data.inspection import seen_as
from steeldefect.data.overlaps import (
    Overlaps,
    Settings,
    canonical_scenes,
    find_overlaps,
    null_threshold,
    scenes_of,
)
from steeldefect.data.rendered import CLASSES
from steeldefect.data.sources import ImageSet
from steeldefect.runs.errors import UserError

SIZE = 96
SETTINGS = Settings(across_classes=False, null_pairs=2000)


@pytest.fixture(scope="module")
def cut() -> Cut:
    return cut_plates(10, 3, SIZE)


@pytest.fixture(scope="module")
def found(cut: Cut) -> Overlaps:
    return find_overlaps(cut.images, cut.labels, SETTINGS, CLASSES)


def test_every_overlap_is_found_at_its_shift_and_no_other(cut: Cut, found: Overlaps) -> None:
    true = cut.true_pairs(0.2)
    assert len(true) > 100
    assert len(true - pairs_of(found)) <= 0.01 * len(true)
    assert cut.false_pairs(found) == []
    for one in found.findings:
        assert (one.dy, one.dx) == tuple(cut.corners[one.b] - cut.corners[one.a])
        assert one.score > 0.95 and one.agreement == 1


def test_brightness_contrast_and_jpeg_do_not_hide_an_overlap(cut: Cut) -> None:
    rng = np.random.default_rng(5)
    found = find_overlaps(np.stack([shot_again(image, rng) for image in cut.images]), cut.labels, SETTINGS, CLASSES)
    true = cut.true_pairs(0.2)
    assert len(true - pairs_of(found)) <= 0.01 * len(true)
    assert cut.false_pairs(found) == []


def test_a_trial_counts_what_is_found_and_what_is_not() -> None:
    cut = cut_plates(4, 3, SIZE)
    row = recall_trial("as rendered", cut, None, 1)
    assert row["true_pairs"] == len(cut.true_pairs()) and row["recall"] == f"{row['found'] / row['true_pairs']:.4f}"
    assert row["found"] >= 0.9 * row["true_pairs"] and row["false_pairs"] == 0
    # images that show nothing have no pair to find
    lost = recall_trial("black", cut, lambda image, _: np.zeros_like(image), 1)
    assert (lost["found"], lost["recall"]) == (0, "0.0000")


def test_the_cost_is_measured_at_each_size_both_ways(cut: Cut) -> None:
    names = tuple(f"image_{k}" for k in range(len(cut.images)))
    images = ImageSet(cut.images, cut.labels, names, tuple(CLASSES), "0" * 12, None, "plates")
    rows = growth_trials(images, [30, 90], 5, 1)
    assert [(row["images"], row["bundle"]) for row in rows] == [(30, 1), (30, 5), (90, 1), (90, 5)]
    assert rows[0]["pairs_searched"] == rows[1]["pairs_searched"] < rows[2]["pairs_searched"]
    assert rows[2]["recall"] == "1.0000" and float(rows[3]["recall"]) > 0.9


def test_the_same_whatever_the_threads(cut: Cut, found: Overlaps) -> None:
    again = find_overlaps(cut.images, cut.labels, SETTINGS, CLASSES, threads=1)
    assert again.findings == found.findings
    assert [one.threshold for one in again.passes] == [one.threshold for one in found.passes]


def test_sums_of_images_find_what_the_exhaustive_search_finds(cut: Cut, found: Overlaps) -> None:
    bundled = find_overlaps(cut.images, cut.labels, replace(SETTINGS, bundle=5), CLASSES)
    wide = {(one.a, one.b) for one in found.findings if one.overlap >= 0.2}
    assert len(wide - pairs_of(bundled)) <= 0.03 * len(wide)
    assert cut.false_pairs(bundled) == []


def test_periodic_surfaces_are_not_chained() -> None:
    cut = cut_plates(24, 1, SIZE, periodic=True)
    found = find_overlaps(cut.images, cut.labels, SETTINGS, CLASSES)
    assert cut.false_pairs(found) == []
    # and they do provoke: any two agree at the best shift within a period
    shifts = [(y, x) for y in range(-12, 13) for x in range(-16, 17)]
    for name in ("pitted_surface", "rolled-in_scale", "scratches"):
        features = normalised(cut.images[cut.labels == CLASSES.index(name)][:4], SIZE)
        best = [max(ncc(*overlapping(features[0], other, *shift)) for shift in shifts) for other in features[1:]]
        assert min(best) > 0.7


def test_a_few_gratings_among_other_surfaces_are_not_chained(cut: Cut) -> None:
    rng = np.random.default_rng(0)
    x, phases = np.arange(SIZE), rng.uniform(0, 14, (30, 1, 1))
    stripes = 120 + 80 * np.exp(-(((x + phases) % 14 - 7) ** 2) / 4) + rng.normal(0, 3, (30, SIZE, SIZE))
    images = np.concatenate([cut.images[::3], np.clip(stripes, 0, 255).astype(np.uint8)])
    assert find_overlaps(images, np.zeros(len(images), np.int64), SETTINGS).findings == ()


def test_dirt_on_the_lens_links_nothing() -> None:
    # all images carry the same sharp marks at the same place
    cut = cut_plates(12, 1, SIZE)
    rng = np.random.default_rng(0)
    images = cut.images.copy()
    images[:, 40:52, 40:52] = rng.integers(0, 256, (12, 12))
    assert find_overlaps(images, cut.labels, SETTINGS, CLASSES).findings == ()


def test_copies_under_other_classes_are_found_in_the_second_pass(cut: Cut) -> None:
    single = np.arange(0, len(cut.images), 3)
    images, labels = cut.images[single].copy(), cut.labels[single]
    copied = int(np.flatnonzero(labels == 4)[0])
    images[copied] = images[0]
    assert pairs_of(find_overlaps(images, labels, SETTINGS)) == set()
    both = find_overlaps(images, labels, replace(SETTINGS, across_classes=True))
    assert pairs_of(both) == {(0, copied)}
    assert both.passes[-1].name == "across classes"
    assert both.passes[-1].pairs == len(labels) * (len(labels) - 1) // 2 - sum(p.pairs for p in both.passes[:-1])


def test_mirrored_and_turned_copies_are_found_when_asked_for(cut: Cut) -> None:
    single = np.flatnonzero(cut.labels == 1)[::3]
    images = cut.images[np.concatenate([single, single[:2]])].copy()
    images[-2] = seen_as(images[0], (0, True))
    images[-1] = seen_as(images[1], (1, False))
    labels = np.zeros(len(images), np.int64)
    last = len(images) - 1
    plain, flips, turns = (
        find_overlaps(images, labels, replace(SETTINGS, transforms=name)) for name in ("none", "flips", "all")
    )
    assert pairs_of(plain) == set()
    assert pairs_of(flips) == {(0, last - 1)}
    assert pairs_of(turns) == {(0, last - 1), (1, last)}
    for one in turns.findings:
        assert np.array_equal(seen_as(images[one.b], one.view), images[one.a])
        assert (one.dy, one.dx, one.overlap) == (0, 0, 1.0)


def test_flat_images_match_nothing() -> None:
    images = np.full((6, 64, 64), 128, np.uint8)
    images[3:] = 20
    assert find_overlaps(images, np.zeros(6, np.int64), SETTINGS).findings == ()


@pytest.mark.parametrize("count", [0, 1, 2])
def test_data_sets_too_small_to_have_pairs(count: int, cut: Cut) -> None:
    found = find_overlaps(cut.images[:count], cut.labels[:count], replace(SETTINGS, across_classes=True))
    assert pairs_of(found) <= {(0, 1)}


def test_the_threshold_bounds_false_finds_and_ignores_mirrored_copies() -> None:
    rng = np.random.default_rng(0)
    null = rng.exponential(0.01, 2000)
    threshold, mirrored = null_threshold(null, 50_000, 0.05)
    # P(X > t) = 1e-6 for an exponential of mean 0.01
    assert threshold == pytest.approx(0.01 * np.log(1e6), rel=0.15)
    assert mirrored == 0
    with_copies, mirrored = null_threshold(np.append(null, rng.uniform(0.4, 0.9, 60)), 50_000, 0.05)
    assert mirrored == 60
    assert with_copies == pytest.approx(threshold, rel=0.1)


def test_every_pair_is_searched_once() -> None:
    labels = np.array([0, 1, 0, 1, 2, 0, 2, 1])
    spaces = [within("x", np.flatnonzero(labels == label), 2) for label in range(3)] + [across(labels, 2)]
    searched = [
        (int(i), int(j))
        for space in spaces
        for row, (i, bundles) in enumerate(zip(space.rows, space.partners, strict=True))
        for j in space.members(row, bundles)
    ]
    assert sorted(searched) == [(i, j) for i in range(8) for j in range(i + 1, 8)]


def test_scenes_are_the_chains_of_pairs_numbered_by_first_appearance() -> None:
    assert scenes_of(6, np.array([(1, 4), (4, 5)])).tolist() == [0, 1, 2, 3, 1, 1]
    assert scenes_of(3, np.empty((0, 2), np.int64)).tolist() == [0, 1, 2]
    assert canonical_scenes(np.array([7, 7, 2, 9, 2])).tolist() == [0, 0, 1, 2, 1]


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"min_overlap": 1.5}, "audit.min_overlap=1.5"),
        ({"transforms": "flip"}, "did you mean 'flips'"),
        ({"overlap": 0.2}, "audit.overlap: unknown"),
        ({"null_pairs": 3}, "audit.null_pairs=3"),
    ],
)
def test_bad_settings_name_their_key(block: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        Settings.of(block)


def test_neu_copies_and_crops(neu_dir: Path) -> None:
    numbers = range(95, 111)
    images = np.stack([decode(neu_dir / f"patches_{k}.jpg", Reading(200)) for k in numbers])
    found = find_overlaps(images, np.zeros(len(numbers), np.int64), SETTINGS)
    by_number = {(numbers[one.a], numbers[one.b]): one for one in found.findings}
    copy = by_number[101, 105]
    assert (copy.dy, copy.dx, copy.overlap) == (0, 0, 1.0)
    assert copy.score == pytest.approx(1)
    corner = by_number[95, 98]
    assert (corner.dy, corner.dx) == (115, -138)
    assert corner.overlap == pytest.approx(0.132, abs=0.001)
