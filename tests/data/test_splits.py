"""Partitions: shares, disjoint scenes, nesting, and what each refuses."""

import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from steeldefect.data import splits
from steeldefect.data.splits import Split, limit_real, make_split
from steeldefect.data.tables import read_scenes
from steeldefect.runs.errors import UserError

CLASSES = ("crazing", "inclusion", "patches", "pitted_surface", "rolled-in_scale", "scratches")
CONF = Path(__file__).parents[2] / "conf"
RANDOM = {"name": "random", "test_fraction": 0.3, "validation_fraction": 0.15}
GROUPED = {"name": "grouped", "test_fraction": 0.3, "validation_fraction": 0.15}
FOLDS = {"name": "grouped_cv", "folds": 3, "fold": 0, "validation_fraction": 0.15}


def neu_like(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """1,800 images of 6 classes in 624 scenes (104 a class): half of them single images, the largest of 40."""
    rng = np.random.default_rng(seed)
    labels, scenes = np.repeat(np.arange(6), 300), []
    for c in range(6):
        sizes = np.ones(104, np.int64)
        sizes[:3] = (40, 25, 15)
        # the rest of the class falls on a middle third, unevenly
        for k in 3 + (44 * rng.beta(0.8, 2.0, size=300 - sizes.sum())).astype(int):
            sizes[k] += 1
        scenes.append(rng.permutation(np.repeat(np.arange(104) + 104 * c, sizes)))
    return labels, np.concatenate(scenes)


def scene_sets(split: Split, scenes: np.ndarray) -> list[set[int]]:
    return [set(scenes[part].tolist()) for part in (split.train, split.validation, split.test)]


def check(split: Split, labels: np.ndarray, scenes: np.ndarray | None = None) -> None:
    """What holds for every split: parts cover all images once, sorted, every class trained and tested."""
    parts = (split.train, split.validation, split.test)
    assert all((np.diff(part) > 0).all() and part.dtype == np.int64 for part in parts)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))
    assert set(labels[split.train]) == set(labels[split.test]) == set(labels)
    if scenes is not None:
        train, validation, test = scene_sets(split, scenes)
        assert not train & test and not validation & test and not train & validation


def test_table_is_as_heavy_tailed_as_neu():
    labels, scenes = neu_like()
    sizes = np.bincount(scenes)
    assert len(sizes) == 624 and len(labels) == 1800 and sizes.max() == 40
    assert 200 < np.count_nonzero(sizes == 1) < 450


def test_random_has_the_counts_of_the_paper():
    labels, _ = neu_like()
    split = make_split(RANDOM | {"validation_fraction": 0}, 0, labels, None, CLASSES)
    check(split, labels)
    assert len(split.train) == 1260 and len(split.validation) == 0
    assert np.bincount(labels[split.test]).tolist() == [90] * 6


def test_random_validation_is_stratified_out_of_train_and_leaves_test_alone():
    labels, _ = neu_like()
    split = make_split(RANDOM, 0, labels, None, CLASSES)
    check(split, labels)
    assert (len(split.train), len(split.validation), len(split.test)) == (1071, 189, 540)
    assert set(np.bincount(labels[split.validation])) <= {31, 32}
    without = make_split(RANDOM | {"validation_fraction": 0}, 0, labels, None, CLASSES)
    assert np.array_equal(split.test, without.test)


@pytest.mark.parametrize("config", [RANDOM, GROUPED, FOLDS], ids=lambda config: config["name"])
def test_same_seed_same_split_other_seed_another(config):
    labels, scenes = neu_like()
    one, again, other = (make_split(config, seed, labels, scenes, CLASSES) for seed in (3, 3, 4))
    for part in ("train", "validation", "test"):
        assert np.array_equal(getattr(one, part), getattr(again, part))
        assert not np.array_equal(getattr(one, part), getattr(other, part))


def test_grouped_over_100_seeds_no_scene_on_two_sides_and_shares_near_7_to_3():
    labels, scenes = neu_like()
    in_test = np.zeros(len(labels), int)
    for seed in range(100):
        split = make_split(GROUPED, seed, labels, scenes, CLASSES)
        check(split, labels, scenes)
        shares = np.bincount(labels[split.test]) / 300
        assert (np.abs(shares - 0.3) <= 0.015).all()
        validation = np.bincount(labels[split.validation]) / np.bincount(labels[np.r_[split.train, split.validation]])
        assert (np.abs(validation - 0.15) <= 0.015).all()
        in_test[split.test] += 1
    # unlike stratified group folds, no scene is always on one side: the largest ones change sides too
    assert in_test.min() > 0 and in_test.max() < 100


def test_grouped_depends_neither_on_scene_ids_nor_on_other_classes():
    labels, scenes = neu_like()
    split = make_split(GROUPED, 0, labels, scenes, CLASSES)
    renamed = make_split(GROUPED, 0, labels, 10_000 - 3 * scenes, CLASSES)
    assert np.array_equal(split.test, renamed.test) and np.array_equal(split.validation, renamed.validation)
    fewer = np.flatnonzero((labels != 5) | (np.arange(1800) % 300 < 60))
    smaller = make_split(GROUPED, 0, labels[fewer], scenes[fewer], CLASSES)
    assert np.array_equal(fewer[smaller.test][labels[fewer[smaller.test]] < 5], split.test[labels[split.test] < 5])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_image_is_tested_once_over_the_folds(seed):
    labels, scenes = neu_like()
    parts = [make_split(FOLDS | {"fold": fold}, seed, labels, scenes, CLASSES) for fold in range(3)]
    for split in parts:
        check(split, labels, scenes)
    counts = np.array([np.bincount(labels[split.test]) for split in parts])
    largest = [np.bincount(scenes[labels == c]).max() for c in range(6)]
    # what "to the emptiest fold" promises, whatever the order
    assert (np.ptp(counts, axis=0) <= largest).all()
    assert np.array_equal(np.sort(np.concatenate([split.test for split in parts])), np.arange(1800))


def test_scene_larger_than_a_fold_does_not_fill_one_on_top_of_others():
    labels = np.repeat([0, 1], 120)
    scenes = np.r_[np.zeros(50, int), np.arange(1, 71), np.arange(100, 220)]
    for seed in range(20):
        tested = [make_split(FOLDS | {"fold": f}, seed, labels, scenes, ("a", "b")).test for f in range(3)]
        assert sorted(np.count_nonzero(labels[test] == 0) for test in tested) == [35, 35, 50]


@st.composite
def tables(draw):
    """Small tables: 2-4 classes of 6-12 scenes, and up to five scenes merged into one across two classes."""
    labels, scenes, n_classes = [], [], draw(st.integers(2, 4))
    for c in range(n_classes):
        sizes = draw(st.lists(st.integers(1, 9), min_size=6, max_size=12))
        labels += [c] * sum(sizes)
        scenes += [100 * c + k for k, size in enumerate(sizes) for _ in range(size)]
    scenes = np.array(scenes)
    for k in range(draw(st.integers(0, 5))):
        scenes[scenes == 100 + k] = k // 2
    return np.array(labels), scenes, [f"class{c}" for c in range(n_classes)]


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(tables(), st.integers(0, 2**31 - 1), st.sampled_from([0.2, 0.3, 0.5]), st.sampled_from([0.0, 0.15, 0.4]))
def test_any_table_splits_without_a_scene_on_two_sides_or_says_which_class_cannot(table, seed, test, validation):
    labels, scenes, classes = table
    for config in (
        GROUPED | {"test_fraction": test, "validation_fraction": validation},
        *(FOLDS | {"fold": fold, "validation_fraction": validation} for fold in range(3)),
    ):
        try:
            split = make_split(config, seed, labels, scenes, classes)
        except UserError as error:
            # only scenes that span classes can use a class up, or a test part that leaves the validation part one scene
            spanning = len(np.unique(scenes)) < len(np.unique(scenes * 10 + labels))
            assert spanning or "split.validation_fraction" in str(error)
            assert "class 'class" in str(error)
        else:
            check(split, labels, scenes)


def test_scene_of_two_classes_stays_whole():
    labels, scenes = neu_like()
    scenes = np.where(np.isin(scenes, [110, 111, 112, 113]), scenes - 100, scenes)
    for seed in range(20):
        check(make_split(GROUPED, seed, labels, scenes, CLASSES), labels, scenes)
        check(make_split(FOLDS, seed, labels, scenes, CLASSES), labels, scenes)


def test_scene_larger_than_the_test_part_stays_in_train_with_a_warning(caplog):
    labels = np.repeat([0, 1], 100)
    scenes = np.r_[np.zeros(60, int), np.arange(1, 41), np.arange(100, 200)]
    with caplog.at_level(logging.WARNING):
        split = make_split(GROUPED, 0, labels, scenes, ("patches", "scratches"))
    assert 0 not in scenes[split.test]
    assert "class patches: 1 of 41 scenes" in caplog.text and "60 images against 31" in caplog.text
    assert "class scratches" not in caplog.text
    caplog.clear()
    make_split(GROUPED, 0, labels, scenes, ("patches", "scratches"))
    assert not caplog.text, "a sweep says it once"


def test_class_of_large_scenes_alone_gives_its_smallest_with_a_warning(caplog):
    labels = np.repeat([0, 1], [90, 30])
    scenes = np.r_[np.repeat([0, 1], [50, 40]), np.arange(10, 40)]
    with caplog.at_level(logging.WARNING):
        split = make_split(GROUPED | {"validation_fraction": 0}, 0, labels, scenes, ("a", "b"))
    assert splits.scenes_per_class(split.test, labels, scenes, ("a", "b")) == {"a": 1, "b": 9}
    assert 1 in scenes[split.test] and "class a: scenes do not add up" in caplog.text


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (GROUPED | {"test_fraction": 1.3}, "split.test_fraction=1.3: must lie in (0, 1)"),
        (RANDOM | {"test_fraction": 0}, "split.test_fraction=0: must lie in (0, 1)"),
        (RANDOM | {"test_fraction": "0.3x"}, "split.test_fraction=0.3x"),
        (GROUPED | {"validation_fraction": 1}, "split.validation_fraction=1: must lie in [0, 1)"),
        (GROUPED | {"validation_fraction": float("nan")}, "split.validation_fraction=nan"),
        (FOLDS | {"fold": 3}, "split.fold=3: must be less than split.folds=3"),
        (FOLDS | {"fold": None}, "split.fold=null"),
        (FOLDS | {"folds": 1}, "split.folds=1"),
        (GROUPED | {"name": "group"}, "did you mean 'grouped'"),
    ],
)
def test_refuses_keys_out_of_range(config, message):
    labels, scenes = neu_like()
    with pytest.raises(UserError) as error:
        make_split(config, 0, labels, scenes, CLASSES)
    assert message in str(error.value)


@pytest.mark.parametrize("config", [GROUPED, FOLDS], ids=lambda config: config["name"])
def test_scenes_are_asked_for_with_the_command_that_finds_them(config):
    with pytest.raises(UserError, match=r"experiments/audit\.py dataset=.*dataset\.scenes=<csv>"):
        make_split(config, 0, np.repeat(np.arange(6), 10), None, CLASSES)


@pytest.mark.parametrize(
    ("config", "words"),
    [(GROUPED, ("'rare'", "20 images are of 1 scene;")), (FOLDS, ("'rare'", "20 images are of 1 scene;"))],
)
def test_class_of_one_scene_cannot_be_grouped(config, words):
    labels, scenes = np.repeat([0, 1], 20), np.r_[np.arange(20), np.full(20, 99)]
    with pytest.raises(UserError) as error:
        make_split(config, 0, labels, scenes, ("usual", "rare"))
    assert all(word in str(error.value) for word in words)


def test_class_of_two_scenes_has_none_for_validation():
    labels, scenes = np.repeat([0, 1], 20), np.r_[np.arange(20), np.repeat([98, 99], 10)]
    check(make_split(GROUPED | {"validation_fraction": 0}, 0, labels, scenes, ("usual", "rare")), labels, scenes)
    with pytest.raises(UserError, match=r"split\.validation_fraction=0\.15: class 'rare'.*1 scene;"):
        make_split(GROUPED, 0, labels, scenes, ("usual", "rare"))


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (1, "split.test_fraction=0.3: class 'rare' has 1 images, and needs 4"),
        (2, "split.validation_fraction=0.15: class 'rare' has 1 images left by the test part, and needs 7"),
    ],
)
def test_class_too_small_for_a_stratified_split_is_named(count, message):
    with pytest.raises(UserError) as error:
        make_split(RANDOM, 0, np.repeat([0, 1], [50, count]), None, ("usual", "rare"))
    assert message in str(error.value)


def test_limit_real_is_nested_balanced_and_of_different_scenes():
    labels, scenes = neu_like()
    train = make_split(GROUPED, 0, labels, scenes, CLASSES).train
    before: set[int] = set()
    for k in (5, 10, 20, 50, 100):
        chosen = limit_real(train[::-1], labels, scenes, CLASSES, k, seed=1)
        assert np.bincount(labels[chosen]).tolist() == [k] * 6
        assert before < set(chosen.tolist()) <= set(train.tolist())
        before = set(chosen.tolist())
        for c in range(6):
            available = len(np.unique(scenes[train][labels[train] == c]))
            assert len(np.unique(scenes[chosen][labels[chosen] == c])) == min(k, available)
    assert set(limit_real(train, labels, scenes, CLASSES, 5, seed=2).tolist()) != set(
        limit_real(train, labels, scenes, CLASSES, 5, seed=1).tolist()
    )


def test_limit_real_draws_large_and_small_scenes_alike():
    labels, scenes = np.zeros(100, int), np.r_[np.zeros(91, int), np.arange(1, 10)]
    hits = sum(0 in scenes[limit_real(np.arange(100), labels, scenes, ["one"], 1, seed)] for seed in range(200))
    assert 5 <= hits <= 40


def test_limit_real_without_scenes_and_without_limit():
    labels, _ = neu_like()
    train = np.arange(0, 1800, 2)
    assert np.array_equal(limit_real(train, labels, None, CLASSES, None, 0), train)
    few, more = (limit_real(train, labels, None, CLASSES, k, 0) for k in (3, 7))
    assert len(few) == 18 and set(few.tolist()) < set(more.tolist())
    for k, message in ((151, "class 'crazing' has 150 training images"), (0, "real_per_class=0")):
        with pytest.raises(UserError, match=message):
            limit_real(train, labels, None, CLASSES, k, 0)


def test_scene_table_is_read_in_the_order_of_the_names(tmp_path):
    path = tmp_path / "scenes.csv"
    path.write_text("\ufeffscene,image\nB,x_2\nA,x_1\nB,x_3\nC,unused\n", encoding="utf-8")
    assert read_scenes(path, ("x_1", "x_2", "x_3")).tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,scene\na,1\n", "no scene for 4 of 5 images (b, c, d ...)"),
        ("image,scene\na,1\na,1\n", "line 3: a is there twice"),
        ("image,group\na,1\n", "no column scene"),
        ("", "no column image and scene"),
        ("image,scene\na\n", "line 2: image or scene is empty"),
        (b"\xff\xfe\x00i", "not a CSV file"),
    ],
)
def test_scene_table_errors_name_file_and_fault(tmp_path, text, message):
    path = tmp_path / "scenes.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as error:
        read_scenes(path, "abcde")
    assert "scenes.csv" in str(error.value) and message in str(error.value)
    with pytest.raises(UserError, match="no such file"):
        read_scenes(tmp_path / "absent.csv", "abcde")


def test_committed_configs_split_as_the_paper_does():
    labels, scenes = neu_like()
    for scale, train in (("paper", 1260), ("cpu", 1071)):
        for name in ("random", "grouped", "grouped_cv"):
            parts = {"split": f"split/{name}.yaml", "scale": f"scale/{scale}.yaml"}
            parts = OmegaConf.create({key: OmegaConf.load(CONF / file) for key, file in parts.items()})
            config = OmegaConf.to_container(parts, resolve=True)["split"]
            if name == "grouped_cv":
                config["fold"] = 2
            split = make_split(config, 0, labels, scenes, CLASSES)
            check(split, labels, None if name == "random" else scenes)
            if name == "random":
                assert len(split.train) == train and len(split.test) == 540
