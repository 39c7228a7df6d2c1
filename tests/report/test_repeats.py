"""A cell trained more than once enters as the mean of its trainings, and counts once."""

import copy
from pathlib import Path

import numpy as np
import pytest

from steeldefect.report.arms import Arms, groups, study_records
from steeldefect.report.collect import Collection, collect
from steeldefect.report.differences import contrast
from steeldefect.report.repeats import fact
from steeldefect.report.statistics import Answers, two_way
from steeldefect.report.tables import summary, to_csv
from steeldefect.report.write import write_report
from steeldefect.runs.errors import UserError
from tests.report.make_fixture import FIXTURE, STUDY_GRIDS

ARM = ("mobilenet_v2", "org100")


def again(found: Collection, mix: str, repeat: int, wrong: int, **changes) -> None:
    """Every MobileNetV2 of a mix under fixed_steps once more, with `wrong` other answers in each replicate."""
    for record in list(found.records):
        of = (record["classifier"], record["mix"], record["augment"], record.get("repeat", 0))
        if of != ("mobilenet_v2", mix, "none", 0) or "fixed_steps" not in record["schedules"]:
            continue
        more, tested = copy.deepcopy(record), found.tested[record["id"]]
        more |= {
            "id": f"{repeat}{record['id'][1:]}",
            "repeat": repeat,
            "train_seed": record["replicate"] + 1000 * repeat,
        }
        predicted = tested.predicted.copy()
        predicted[:wrong] = (tested.label[:wrong] + 1) % 6
        more["metrics"]["accuracy"] = float((predicted == tested.label).mean())
        found.records.append(more | changes)
        found.tested[more["id"]] = Answers(tested.image, tested.scene, tested.label, predicted, tested.overlaps)


def study() -> Collection:
    found = collect(FIXTURE / "controls")
    return Collection(found.records, dict(found.tested), [])


def arms_of(found: Collection) -> Arms:
    tables = [Arms(found, group) for group in groups(found.records)]
    return next(arms for arms in tables if (arms.group.schedule, arms.group.augment) == ("fixed_steps", "none"))


def test_the_mean_of_the_trainings_enters_and_n_counts_replicates() -> None:
    found = study()
    once = arms_of(found)
    again(found, "org100", 1, 9)
    again(found, "org100", 2, 3)
    arms = arms_of(found)
    for replicate, run in arms.runs(*ARM, "accuracy").items():
        own = [r for r in found.records if r["replicate"] == replicate and arms.group.holds(r)]
        values = [r["metrics"]["accuracy"] for r in own if (r["classifier"], r["mix"]) == ARM]
        assert len(values) == 3 and run.value == pytest.approx(np.mean(values))
    one, other = (contrast(each, "mobilenet_v2", "org20", "org100", "accuracy") for each in (once, arms))
    assert one.found.n_runs == other.found.n_runs == 4
    assert other.found.mean > one.found.mean  # the repeats of org100 are worse
    assert len(other.cells) == len(one.cells) + 8


def test_the_interval_is_that_of_the_mean_answer_to_each_image() -> None:
    found = study()
    again(found, "org100", 1, 9)
    arms = arms_of(found)
    values, scenes, runs = [], [], []
    for replicate, cell in arms.arm("mobilenet_v2", "org20").trained.items():
        own = [r for r in found.records if (r["classifier"], r["mix"]) == ARM and r["replicate"] == replicate]
        answers = [found.tested[r["id"]] for r in own if arms.group.holds(r)]
        right = np.mean([a.predicted == a.label for a in answers], axis=0)
        mine = found.tested[cell["id"]]
        values.append((mine.predicted == mine.label) - right)
        scenes.append(mine.scene)
        runs.append(np.full(len(right), replicate))
    mean = np.mean([part.mean() for part in values])
    moved = np.concatenate([(part - mean) / len(part) / 4 for part in values])
    error, _ = two_way(moved, np.unique(np.concatenate(scenes), return_inverse=True)[1], np.concatenate(runs))
    difference = contrast(arms, "mobilenet_v2", "org20", "org100", "accuracy").found
    assert (difference.mean, difference.error) == (pytest.approx(mean), pytest.approx(float(error)))


def test_a_training_that_failed_enters_no_mean_and_is_counted() -> None:
    found = study()
    once = arms_of(found).estimate(*ARM, "accuracy")
    again(found, "org100", 1, 12, trained=False)
    assert arms_of(found).estimate(*ARM, "accuracy") == once
    assert "mobilenet_v2 org100 2 in 4 (4 of 8 not trained)" in fact(found.records)


def test_what_another_training_is_worth_is_said_where_it_is_known() -> None:
    found = study()
    assert fact(found.records) == ""
    again(found, "org100", 1, 9)
    told = fact(found.records)
    pairs = [arms_of(found).arm(*ARM).trained[replicate]["trainings"] for replicate in range(4)]
    spread = np.sqrt(np.mean([np.var([r["metrics"]["accuracy"] for r in pair], ddof=1) for pair in pairs]))
    assert f"mobilenet_v2 {100 * spread:.1f} points (4 cells)" in told and "mobilenet_v2 org100 2 in 4;" in told


def test_cells_that_differ_in_more_than_their_seed_are_refused() -> None:
    found = study()
    again(found, "org100", 1, 9, config={"optimizer": {"lr": 0.1}})
    with pytest.raises(UserError, match=r"both mobilenet_v2 on org100, replicate 0; they differ in .*optimizer\.lr"):
        arms_of(found)
    found = study()
    again(found, "org20", 1, 9)
    for record in found.records:
        if record.get("repeat"):
            record["ids"] = record["ids"] | {"bank": "0" * 12}
    with pytest.raises(UserError, match=r"they differ in ids\.bank"):
        arms_of(found)


def test_the_first_trainings_alone_can_be_chosen_among_records_old_and_new() -> None:
    found = study()
    again(found, "org100", 1, 9)
    assert study_records(found.records, {"repeat": 0}) == study().records
    assert {record["id"][0] for record in study_records(found.records, {"repeat": [1, 2]})} == {"1"}


def test_the_same_seed_twice_is_no_repeat() -> None:
    """Nor is a cell of another `train_seed`, which may have been trained for another end."""
    found = study()
    again(found, "org100", 1, 9)
    for record in found.records:
        if record.get("repeat"):
            record["repeat"] = 0
    with pytest.raises(UserError, match="their configs are the same"):
        arms_of(found)


def test_what_cannot_change_a_cell_may_differ_between_its_trainings() -> None:
    """A generator of which the mix holds no image, another study's name, another device, another key of a scale."""
    found = study()
    again(found, "org100", 1, 9)
    for record in found.records:
        if record.get("repeat"):
            more = {"study": "table3", "keep_weights": True, "gan": {"name": "edcgan_plus"}, "trainer": {"threads": 4}}
            record["config"] = record["config"] | more
    assert all(len(cell["trainings"]) == 2 for cell in arms_of(found).arm(*ARM).trained.values())


def test_a_report_with_repeats_says_so_and_reads_itself_again(tmp_path: Path) -> None:
    """Committed records give the same tables, so the repeats survive being written."""
    found = study()
    again(found, "org100", 1, 9)
    again(found, "org20", 1, 4)
    grid = STUDY_GRIDS["controls"]
    write_report(found, tmp_path / "one", grid, tmp_path / "artifacts", "controls")
    text = (tmp_path / "one" / "README.md").read_text()
    assert "Trainings of a cell (`repeat`): " in text and "mobilenet_v2 org20 " in text
    assert "n: 53 trainings of 45 cells, replicates" in text
    assert "0, repeat 1" in (tmp_path / "one" / "report.md").read_text()
    page = (tmp_path / "one" / "page.html").read_text()
    again_of = {record["id"]: record["replicate"] for record in found.records if record.get("repeat")}
    assert all(f"{key}: mobilenet_v2, " in page for key in again_of)
    assert page.count(", repeat 1</summary>") == len(again_of)
    write_report(collect(tmp_path / "one"), tmp_path / "two", grid, tmp_path / "artifacts", "controls", figures=False)
    for name in ("summary.csv", "contrasts.csv", "controls.csv", "README.md"):
        assert (tmp_path / "one" / name).read_text() == (tmp_path / "two" / name).read_text()


def test_every_figure_of_the_long_table_is_the_mean() -> None:
    found = study()
    again(found, "org100", 1, 9)
    arms = arms_of(found)
    rows = [row for row in summary("controls", [arms]) if (row["classifier"], row["mix"]) == ARM]
    assert "nan" not in to_csv(tuple(rows[0]), rows)
    recall = next(row for row in rows if (row["metric"], row["class"]) == ("recall", arms.classes[0]))
    own = [cell["per_class"]["recall"][0] for cell in arms.arm(*ARM).trained.values()]
    assert float(recall["mean"]) == pytest.approx(np.mean(own), abs=1e-6) and recall["n_runs"] == 4
