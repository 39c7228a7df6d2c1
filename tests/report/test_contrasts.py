import csv
import io
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from steeldefect.report.arms import Arms, Missing, groups
from steeldefect.report.collect import Collection, collect
from steeldefect.report.contrasts import Declared, contrast_tables
from steeldefect.report.differences import FEWEST, contrast
from steeldefect.report.low_data import _crossing, _falling, exchange_table, families, low_data_figure, worth
from steeldefect.report.schedules import schedules_tables
from steeldefect.report.statistics import Estimate, holm, two_way
from steeldefect.report.tables import SUMMARY, contrasted, table3
from steeldefect.report.terminal import show
from steeldefect.report.write import Grid, write_report
from steeldefect.runs.environment import alike
from tests.report.make_fixture import EXPECTED, FIXTURE, GOLDEN_OF, STUDIES, STUDY_GRIDS


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[str, Path]:
    folders = {study: tmp_path_factory.mktemp(study) for study in STUDIES}
    for study, folder in folders.items():
        write_report(collect(FIXTURE / study), folder, STUDY_GRIDS[study], folder / "artifacts", study, figures=False)
    return folders


def arms_of(study: str, change=lambda records: records) -> list[Arms]:
    found = collect(FIXTURE / study)
    found = Collection(change(found.records), found.tested, [])
    return [Arms(found, group) for group in groups(found.records)]


def plain(tables: list[Arms], schedule: str = "fixed_steps", augment: str = "none") -> Arms:
    return next(arms for arms in tables if (arms.group.schedule, arms.group.augment) == (schedule, augment))


@pytest.mark.parametrize(("study", "name"), [(study, name) for study, names in GOLDEN_OF.items() for name in names])
def test_studies_give_the_committed_tables(written, study, name):
    assert (written[study] / name).read_text() == (EXPECTED / study / name).read_text()


def test_another_metric_is_tested_where_it_is_asked_for(tmp_path):
    """Balanced accuracy: its differences are those of the long table, tested, corrected, judged; accuracy is not."""
    grid = replace(STUDY_GRIDS["controls"], metric="balanced_accuracy")
    report = write_report(
        collect(FIXTURE / "controls"), tmp_path, grid, tmp_path / "artifacts", "controls", figures=False
    )
    assert {table.metric for table in report.contrasts} == {"balanced_accuracy", "mean_pr"}
    assert all("balanced accuracy" in table.title for table in report.shown("controls")[:1])
    rows = list(csv.DictReader((tmp_path / "contrasts.csv").open()))
    tested = [row for row in rows if row["metric"] == "balanced_accuracy"]
    assert any(row["primary"] == "true" for row in tested)
    assert any(row["p_holm"] for row in tested) and not any(row["p_holm"] for row in rows if row not in tested)
    wanted = {key: value for key, value in tested[0].items() if key in ("classifier", "schedule", "augment", "mix")}
    name = f"balanced_accuracy_minus_{tested[0]['arm']}"
    summary = [row for row in csv.DictReader((tmp_path / "summary.csv").open()) if row["metric"] == name]
    same = [row for row in summary if all(row[key] == value for key, value in wanted.items())]
    # the primary one is judged on the replicates that all three arms have; the long table takes all pairs
    assert float(same[0]["mean"]) * 100 == pytest.approx(float(tested[0]["difference_percent"]), abs=0.01)


def test_a_contrast_by_hand():
    """org20 - org100 of MobileNetV2 from the answers themselves."""
    arms = plain(arms_of("controls"))
    one, two = arms.arm("mobilenet_v2", "org20").trained, arms.arm("mobilenet_v2", "org100").trained
    values, scenes, runs = [], [], []
    for replicate in range(4):
        a, b = arms.tested[one[replicate]["id"]], arms.tested[two[replicate]["id"]]
        values.append((a.predicted == a.label).astype(float) - (b.predicted == b.label))
        scenes.append(a.scene)
        runs.append(np.full(len(a.scene), replicate))
    by_run = [part.mean() for part in values]
    mean = np.mean(by_run)
    moved = np.concatenate([(part - mean) / len(part) / 4 for part in values])
    error, _ = two_way(moved, np.unique(np.concatenate(scenes), return_inverse=True)[1], np.concatenate(runs))
    found = contrast(arms, "mobilenet_v2", "org20", "org100", "accuracy")
    assert (found.found.mean, found.found.error) == (pytest.approx(mean), pytest.approx(float(error)))
    assert (found.wins, found.sizes) == (sum(value > 0 for value in by_run), {"n_images": 144, "n_scenes": 54})
    assert found.p < 0.001 and found.p_by_scene < 0.001


def test_holm_leaves_the_primary_contrasts_out():
    tables = contrast_tables(arms_of("controls"))
    tested = [one for table in tables if table.metric == "accuracy" for one in table.contrasts]
    family = [one for one in tested if not one.primary]
    adjusted = holm([1.0 if one.p is None else one.p for one in family])
    assert [one.p_holm for one in family if one.p is not None] == pytest.approx(
        [after for one, after in zip(family, adjusted, strict=True) if one.p is not None]
    )
    primary = [one for one in tested if one.primary]
    assert [(one.mix, one.arm) for one in primary] == [("org20", "org100"), ("org20", "classical")]
    assert all(one.p_holm is None for one in primary)
    assert not [one for table in tables if table.metric != "accuracy" for one in table.contrasts if one.p_holm]


def test_a_primary_contrast_in_another_table_is_not_corrected_there():
    """org20 and classical are one cell under both schedules, and so is their difference."""

    def both(records):
        return [r | {"schedules": ["fixed_steps", "paper"]} if r["mix"] == "classical" else r for r in records]

    tables = [table for table in contrast_tables(arms_of("controls", both)) if table.metric == "accuracy"]
    first, second = (
        next(one for one in table.contrasts if (one.mix, one.arm) == ("org20", "classical"))
        for table in tables
        if table.group.augment == "none"
    )
    assert first.primary and not second.primary and first.cells == second.cells
    assert second.again and second.p == first.p and second.p_holm is None and "(as above)" in second.line()[1]
    slots = {one.slot for table in tables for one in table.contrasts} - {
        one.slot for one in tables[0].contrasts if one.primary
    }
    assert family_size(tables) == len(slots)


def test_what_did_not_train_is_counted_in_beside():
    """The gate leaves out what an arm did harm to; the figures of all cells are printed, too, and not judged."""

    def untrained(records):
        lost = ("classical", "mobilenet_v2", 0)
        return [r | {"trained": False} if (r["mix"], r["classifier"], r["replicate"]) == lost else r for r in records]

    arms, whole = plain(arms_of("controls", untrained)), plain(arms_of("controls"))
    one = contrast(arms, "mobilenet_v2", "classical", "org100", "accuracy")
    same = contrast(whole, "mobilenet_v2", "classical", "org100", "accuracy")
    assert (one.found.n_runs, one.ungated, same.ungated) == (3, same.found, None)
    assert one.row()["n_all_cells"] == 4
    note = next(table.note for table in contrast_tables(arms_of("controls", untrained)) if table.primary)
    assert "With the cells that did not train" in note and "mobilenet_v2 classical - org100 +5.3 [" in note


def test_the_order_of_the_same_images_is_compared_too():
    tables = arms_of("controls")
    paper = next(table for table in contrast_tables(tables) if table.group.schedule == "paper")
    one = next(one for one in paper.contrasts if one.mix == "oversampled (paper)")
    own = plain(tables, "paper").arm("mobilenet_v2", "oversampled").trained
    other = plain(tables).arm("mobilenet_v2", "org100").trained
    values = [own[r]["metrics"]["accuracy"] - other[r]["metrics"]["accuracy"] for r in own]
    assert one.arm == "org100 (fixed_steps)" and one.found.mean == pytest.approx(np.mean(values))
    assert one.p_holm is not None and one.wins == sum(value > 0 for value in values)


def family_size(tables) -> int:
    return int(tables[0].note.split()[2])


def test_a_study_half_made_corrects_for_all_that_it_declares():
    """So that a p value does not grow when the rest of the study is made."""
    declared = STUDY_GRIDS["controls"].arms
    whole = contrast_tables(arms_of("controls"), declared)

    def begun(records):
        return [r for r in records if r["classifier"] == "mobilenet_v2" and "fixed_steps" in r["schedules"]]

    def early(records):
        return [r for r in begun(records) if r["mix"] in ("org100", "classical", "org20") and r["augment"] == "none"]

    found = contrast_tables(arms_of("controls", early), declared)
    assert family_size(found) == 14  # six of MobileNetV2, eight of small_cnn
    missing = [(one.classifier, one.mix, one.arm) for one in found[0].contrasts if isinstance(one.found, Missing)]
    assert ("small_cnn", "org20", "org100") in missing and ("mobilenet_v2", "shuffled", "org100") in missing
    assert family_size(contrast_tables(arms_of("controls", begun), declared)) == 14 + 4  # under augment=classical
    assert family_size(whole) == 14 + 4 + 6 + 2  # and under schedule=paper, two of them across schedules


def test_under_two_thirds_of_the_runs_nothing_is_tested():
    def short(least):
        return lambda records: [r for r in records if r["mix"] != "shuffled" or r["replicate"] < least]

    for least, tested in ((3, True), (2, False)):
        arms = plain(arms_of("controls", short(least)))
        one = contrast(arms, "mobilenet_v2", "shuffled", "org100", "accuracy")
        assert (one.found.n_runs, one.p is not None, one.p_by_scene is not None) == (least, tested, tested)


def test_pairs_of_two_machines_are_named():
    def moved(records):
        def on(r):
            return r | {"environment": r["environment"] | {"machine": "another"}}

        return [on(r) if (r["mix"], r["replicate"]) == ("shuffled", 1) else r for r in records]

    notes = [table.note for table in contrast_tables(arms_of("controls", moved)) if table.group.augment == "none"]
    # to org100, to classical, and org20 to it
    assert "The two cells of 3 pairs were trained on different kinds of machine" in notes[0]
    assert not any("kinds of machine" in table.note for table in contrast_tables(arms_of("controls")))


def test_a_machine_that_tells_its_instruction_set_is_the_one_that_did_not():
    before, now, other = "AMD EPYC, 2 cores", "AMD EPYC, 2 cores, AVX2", "AMD EPYC, 2 cores, AVX512-BF16"
    assert alike(before, now) and alike(now, before) and alike(before, other) and alike(now, now)
    assert not alike(now, other) and not alike(before, "AMD EPYC, 4 cores, AVX2")
    assert not alike(before, f"{before}, 2 processes, AVX2") and not alike(before, f"{before}, 2 processes")


def test_the_csv_holds_the_primary_contrasts_as_they_were_judged(tmp_path):
    found = collect(FIXTURE / "controls")
    kept = [r for r in found.records if (r["mix"], r["replicate"]) != ("classical", 2)]
    write_report(
        Collection(kept, found.tested, []), tmp_path, STUDY_GRIDS["controls"], tmp_path, "controls", figures=False
    )
    with (tmp_path / "contrasts.csv").open() as file:
        runs = [row["n_runs"] for row in csv.DictReader(file) if row["primary"] == "true"]
    assert runs == ["3", "3"]


def test_one_contrast_in_two_tables_is_counted_once():
    """Cells without a bank stand in the tables of each GAN."""

    def twice(records):
        other = [r | {"id": f"f{r['id'][1:]}", "gan": "dcgan"} for r in records if r["mix"] == "shuffled"]
        return [*records, *other]

    once, two = (contrast_tables(arms_of("controls", change)) for change in (lambda records: records, twice))
    assert len(two) == len(once) + 2  # the two metrics of dcgan's group
    found = {
        table.group.gan: table
        for table in two
        if table.metric == "accuracy" and table.group.augment == "none" and table.group.schedule == "fixed_steps"
    }
    pair = [
        next(c for c in found[gan].contrasts if (c.classifier, c.mix, c.arm) == ("mobilenet_v2", "classical", "org100"))
        for gan in ("edcgan", "dcgan")
    ]
    assert pair[0].cells == pair[1].cells and pair[0].p_holm == pair[1].p_holm
    # more of dcgan's `shuffled` alone: to org100 and to classical, for small_cnn, which has none, too
    assert family_size(two) - family_size(once) == 4


def said(change) -> str:
    return next(table.said for table in contrast_tables(arms_of("controls", change)) if table.primary)


def test_the_primary_hypothesis_is_judged_against_both_controls():
    assert said(lambda records: records).endswith("both intervals lie above 0: org20 **helps**.")

    def swapped(one, other):
        names = {one: other, other: one}
        return lambda records: [
            r | {"mix": names.get(r["mix"], r["mix"])} if r["classifier"] == "mobilenet_v2" else r for r in records
        ]

    assert said(swapped("org20", "shuffled")).endswith("org20 **hurts**.")
    # above org100 alone is not enough
    assert "the better one is classical" in said(swapped("org20", "classical"))
    assert "**helps**" not in said(swapped("org20", "classical"))

    def without(mix, least):
        return lambda records: [r for r in records if r["mix"] != mix or r["replicate"] < least]

    assert "cannot be judged, org20 - classical is missing" in said(without("classical", 0))
    assert f"nothing is said of fewer than {FEWEST} pairs" in said(without("classical", 3))


def test_what_the_permutation_takes_back_is_said(monkeypatch):
    def swapped(records):
        names = {"org20": "shuffled", "shuffled": "org20"}
        return [r | {"mix": names.get(r["mix"], r["mix"])} if r["classifier"] == "mobilenet_v2" else r for r in records]

    monkeypatch.setattr("steeldefect.report.differences.sign_flip", lambda _: 0.2)
    told = said(swapped)
    assert "**not shown**" in told and "does not agree, p = 0.200" in told and "could have shown" not in told
    monkeypatch.setattr("steeldefect.report.differences.sign_flip", lambda _: None)
    assert "has no permutation by scene" in said(swapped)


def test_without_a_replicate_of_all_three_arms_nothing_is_judged():
    kept = {"org20": (0, 1, 2, 3), "classical": (2, 3), "org100": (0, 1)}

    def apart(records):
        return [r for r in records if r["mix"] not in kept or r["replicate"] in kept[r["mix"]]]

    (table,) = [table for table in contrast_tables(arms_of("controls", apart)) if table.primary]
    assert "cannot be judged, org20 - org100 is missing and org20 - classical is missing" in table.said
    assert all(isinstance(one.found, Missing) for one in table.primary)


def test_differences_across_schedules_are_printed_though_no_pair_is_left():
    def failed(records):
        return [
            r | {"trained": r["trained"] and not (r["mix"] == "org100" and r["schedules"] == ["fixed_steps"])}
            for r in records
        ]

    def across(change):
        return {
            (one.classifier, one.mix, one.arm): one
            for table in contrast_tables(arms_of("controls", change))
            for one in table.contrasts
            if one.across and table.metric == "accuracy"
        }

    before, after = across(lambda records: records), across(failed)
    assert before and before.keys() == after.keys()
    assert {one.found for one in after.values()} == {Missing("not trained")}


def test_the_primary_contrasts_share_their_replicates():
    def short(records):
        return [r for r in records if (r["mix"], r["replicate"]) != ("classical", 2)]

    table = next(table for table in contrast_tables(arms_of("controls", short)) if table.primary)
    assert [one.found.n_runs for one in table.primary] == [3, 3]
    assert [one.found.n_runs for one in table.contrasts if one.primary] == [4, 3]


def test_oversampled_is_org100_where_updates_are_fixed(written):
    text = (written["controls"] / "contrasts.md").read_text()
    fixed, paper = (part for part in text.split("## ") if "augment=none" in part and "accuracy" in part[:60])
    assert (
        "oversampled has the images and the number of updates of org100 here" in fixed
        and "- oversampled |" not in fixed
    )
    assert "org20 - oversampled | +" in paper
    assert "| oversampled |" not in (written["controls"] / "controls.md").read_text().split("schedule=paper")[0]


def test_summary_has_a_row_a_control(written):
    with (written["controls"] / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == SUMMARY
    own = {
        (row["mix"], row["metric"]): row
        for row in rows
        if row["schedule"] == "fixed_steps"
        and row["class"] == "all"
        and (row["classifier"], row["augment"]) == ("mobilenet_v2", "none")
    }
    minus = {
        (mix, metric.removeprefix("accuracy_minus_")) for mix, metric in own if metric.startswith("accuracy_minus")
    }
    assert minus == {
        *(("org20", arm) for arm in ("org100", "classical", "shuffled")),
        *((mix, arm) for mix in ("org0", "shuffled") for arm in ("org100", "classical")),
        ("classical", "org100"),
    }
    # n of a difference is that of its pairs
    assert own["org0", "accuracy_minus_org100"]["n_images"] == "90"
    assert own["org20", "accuracy_minus_org100"]["n_images"] == "144"


def test_the_mean_row_says_what_did_not_train():
    found = collect(FIXTURE / "controls")
    tables = [Arms(found, group) for group in groups(found.records)]
    names, mixes = ["mobilenet_v2", "small_cnn"], ["org100", "org20"]
    row = dict(table3(plain(tables), names, mixes).rows)["mean"]
    assert row[0].text().endswith("n=4") and row[1].text().endswith("n=3")
    for record in found.records:
        if record["classifier"] == "small_cnn" and record["mix"] == "org20":
            record["trained"] = False
    row = dict(table3(plain(tables), names, mixes).rows)["mean"]
    assert {entry.text() for entry in row} == {"not trained (small_cnn)"}
    row = dict(table3(plain(tables), [*names, "vgg16"], mixes).rows)["mean"]
    assert {entry.text() for entry in row} == {"missing (vgg16)"}
    assert "mean" not in dict(table3(plain(tables), ["mobilenet_v2"], mixes).rows)


def test_a_bank_is_worth_the_real_images_that_equal_it():
    tables = arms_of("low_data")
    family = families(tables)[0]
    arms = next(a for a in family if (a.group.real_per_class, a.group.augment) == (10, "none"))
    found = worth(family, arms, "mobilenet_v2", "org20")
    assert found.knots == (10.0, 20.0, 50.0) and found.n_runs == 4
    assert found.low < found.mean < found.high
    # by hand: accuracies are linear in log n between the two numbers beside
    values = {
        n: arms_.estimate("mobilenet_v2", mix, "accuracy").mean
        for n, arms_, mix in (
            (20, next(a for a in family if a.group.real_per_class == 20), "org100"),
            (50, arms, "real_extra"),
        )
    }
    own = arms.estimate("mobilenet_v2", "org20", "accuracy").mean
    share = (own - values[20]) / (values[50] - values[20])
    assert found.mean == pytest.approx(20 * 2.5**share)
    # another number of updates is no fair comparison
    changed = [
        record | {"updates": {"initial": 1, "retrain": 1}} if record["real_per_class"] == 20 else record
        for record in collect(FIXTURE / "low_data").records
    ]
    other = families(arms_of("low_data", lambda _: changed))[0]
    arms = next(a for a in other if (a.group.real_per_class, a.group.augment) == (10, "none"))
    assert worth(other, arms, "mobilenet_v2", "org20").knots == (10.0, 50.0)


def test_a_number_of_real_images_is_one_though_splits_differ_by_a_few():
    """All images of a split are 1,018 or 1,021: one number of real images, of which every replicate says something."""

    def uneven(records):
        whole = [
            record
            | {"real_per_class": None, "id": f"all-{record['id']}"}
            | {"counts": record["counts"] | {"real": 1000 + record["replicate"]}}
            for record in records
            if record["real_per_class"] == 20 and record["mix"] in ("org100", "org20")
        ]
        return [*records, *whole]

    family = families(arms_of("low_data", lambda _: uneven(collect(FIXTURE / "low_data").records)))[0]
    arms = next(a for a in family if (a.group.real_per_class, a.group.augment) == (10, "none"))
    found = worth(family, arms, "mobilenet_v2", "org20")
    own = [r for r in arms.records if (r["mix"], r["classifier"]) == ("org20", "mobilenet_v2") and r["trained"]]
    of_all = float(np.mean([1000 + record["replicate"] for record in own])) / len(arms.classes)
    assert found.knots == (10.0, 20.0, 50.0, pytest.approx(of_all)) and found.n_runs == 4
    assert (
        f"10, 20, 50, {of_all:.0f}" in {line[-1] for line in exchange_table(family).lines} and not of_all.is_integer()
    )


def test_another_generator_is_answered_in_words_and_is_not_the_primary_hypothesis():
    def renamed(records):
        return [record | ({"gan": "stylegan3"} if record["gan"] == "edcgan" else {}) for record in records]

    ours = next(t for t in contrast_tables(arms_of("controls")) if t.primary)
    theirs = next(t for t in contrast_tables(arms_of("controls", renamed)) if t.said and t.metric == ours.metric)
    assert theirs.group.gan == "stylegan3" and theirs.said == ours.said and not theirs.primary
    assert theirs.markdown().startswith("**In words**, by the rule of the primary hypothesis: mobilenet_v2, org20")
    assert [(one.arm, one.primary) for one in theirs.answer] == [("org100", False), ("classical", False)]


def test_a_study_of_one_other_classifier_is_answered_of_that_one():
    def only(records):
        return [r | {"classifier": "small_cnn"} for r in records if r["classifier"] == "mobilenet_v2"]

    ours = next(t for t in contrast_tables(arms_of("controls")) if t.primary)
    theirs = next(t for t in contrast_tables(arms_of("controls", only)) if t.said)
    assert theirs.said == ours.said.replace("mobilenet_v2", "small_cnn") and not theirs.primary


def test_mixes_that_fill_up_small_classes_have_controls_of_their_own():
    """The same cells under the names of mix.balance=uniform: compared with each other and with org100 alike."""
    named = {mix: f"{mix}-uniform" for mix in ("org20", "org0", "classical", "shuffled")}

    def filled(records):
        return [r | {"mix": named.get(r["mix"], r["mix"])} for r in records]

    ours, theirs = (
        next(t for t in contrast_tables(arms_of("controls", change)) if t.said)
        for change in (lambda records: records, filled)
    )
    assert theirs.said.replace("-uniform", "") == ours.said and "**helps**" in theirs.said
    pairs = {(c.mix.removesuffix("-uniform"), c.arm.removesuffix("-uniform")) for c in theirs.contrasts}
    assert pairs == {(c.mix, c.arm) for c in ours.contrasts} and "No cell of" not in theirs.note
    assert contrasted("org20-uniform", "org100") and not contrasted("org20-uniform", "classical")
    assert not contrasted("org20", "classical-uniform") and not contrasted("org0-uniform", "shuffled-uniform")


def test_what_fewer_updates_cost_is_read_with_and_without_the_gate():
    """S13: org20 is one cell under both schedules, so the two differences to org100 differ by org100 alone."""
    tables = arms_of("controls")
    (table,) = schedules_tables(tables)
    many, few = (plain(tables, schedule).arm("mobilenet_v2", "org100").trained for schedule in ("fixed_steps", "paper"))
    values = [many[r]["metrics"]["accuracy"] - few[r]["metrics"]["accuracy"] for r in many]
    assert [name for name, _ in table.rows] == ["mobilenet_v2"]
    ungated, gated = table.rows[0][1]
    assert ungated.ours.mean == gated.ours.mean == pytest.approx(np.mean(values)) and gated.ours.n_runs == 4

    def untrained(records):
        lost = ("org100", ["paper"], 0)
        return [r | ({"trained": False} if (r["mix"], r["schedules"], r["replicate"]) == lost else {}) for r in records]

    ((_, (ungated, gated)),) = schedules_tables(arms_of("controls", untrained))[0].rows
    assert ungated.ours.mean == pytest.approx(np.mean(values)) and (ungated.ours.n_runs, ungated.not_trained) == (4, 0)
    assert gated.ours.mean == pytest.approx(np.mean(values[1:])) and (gated.ours.n_runs, gated.not_trained) == (3, 1)
    assert "(1 not trained)" in gated.text()

    def of_two_generators(records):
        more = [r | {"gan": "dcgan", "id": f"f{r['id'][1:]}"} for r in records if r["gan"] == "edcgan"]
        return [*records, *more]

    tables = arms_of("controls", of_two_generators)
    assert {arms.group.gan for arms in tables if arms.group.schedule == "paper"} == {"dcgan", "edcgan"}
    assert len(schedules_tables(tables)) == 1


def test_low_data_is_judged_by_its_own_arms(tmp_path):
    """Cells on all real images, of another study, are knots of the exchange rate and add nothing to Holm's family."""
    low, other = collect(FIXTURE / "low_data"), collect(FIXTURE / "controls")
    both = Collection([*low.records, *other.records], low.tested | other.tested, [])
    mixes = ["org100", "classical", "org20", "bank1000", "real_extra"]
    grid = Grid(
        table2_mixes=[], table3_classifiers=[], table3_mixes=[], arms={"none": Declared(["mobilenet_v2"], mixes)}
    )
    slots = {}
    for name, collection in (("alone", low), ("both", both)):
        write_report(collection, tmp_path / name, grid, tmp_path, "low_data", figures=False)
        rows = list(csv.DictReader((tmp_path / name / "contrasts.csv").open()))
        slots[name] = {(row["real_per_class"], row["augment"], row["mix"], row["arm"], row["p_holm"]) for row in rows}
    assert slots["both"] == slots["alone"] and not any(slot[0] == "all" for slot in slots["alone"])


def test_beyond_the_numbers_that_were_trained_nothing_is_claimed():
    rows = {
        (row[0].augment, row[0].real_per_class, row[2]): row[3]
        for row in exchange_table(families(arms_of("low_data"))[0]).rows
    }
    assert rows["none", 10, "bank1000"].text() == "not reached (over 50) [over 50, over 50] n=4"
    assert rows["none", 20, "org20"].text() == "not reached (under 10) [under 10, under 10] n=4"
    assert rows["none", 20, "bank1000"] == Missing("not trained")
    assert rows["classical", 10, "org20"].text().endswith("[under 10, over 10] n=1")


def test_brackets_reach_the_terminal():
    out = io.StringIO()
    tables = [exchange_table(families(arms_of("low_data"))[0]), *contrast_tables(arms_of("controls"))]
    for table in tables:
        show(table.rich(), Console(file=out))
    assert "[under 10, over 10] n=1" in out.getvalue()
    assert "[+7.8, +17.4] n=4" in out.getvalue() and "org20 helps." in " ".join(out.getvalue().split())


def test_real_images_alone_are_told_with_each_generator_that_there_is():
    """A number of real images at which a generator has no cell stays a knot of what its bank is worth."""

    def changed(records):
        few = [r for r in records if r["real_per_class"] == 10 and r["augment"] == "none"]
        real = [r for r in few if r["gan"] == "none"]
        # another number of real images, and another data set, without a bank
        more = [r | {"id": f"e{r['id'][1:]}", "real_per_class": 20} for r in real]
        other = [r | {"id": f"d{r['id'][1:]}", "dataset": "other"} for r in real]
        return [*few, *more, *other]

    found = families(arms_of("low_data", changed))
    told = {
        (own[0].group.dataset, own[0].group.gan): sorted(arms.group.real_per_class for arms in own) for own in found
    }
    assert told == {("neu_cls", "edcgan"): [10, 20], ("other", "none"): [10]}


def known(means: list[float], errors: list[float] | None = None) -> list[Estimate]:
    return [
        Estimate(mean, mean - 1, mean + 1, 3, "", error, 2.0)
        for mean, error in zip(means, errors or [1.0] * len(means), strict=True)
    ]


def test_the_interval_of_a_bank_s_worth_holds_what_no_knot_contradicts(monkeypatch):
    """At 50 the mix is shown to be worse than real images, however little is known of 10 and 170."""
    ends = {10: (-4.6, 1.5, 7.7), 50: (-40.0, -29.0, -17.8), 170: (-110.0, -20.0, 63.2)}
    family = families(arms_of("low_data"))[0]
    arms = next(arms for arms in family if arms.group.real_per_class == 10)

    def of(ends):
        found = {k: Estimate(mean, low, high, 2, "", 1.0, 1.0) for k, (low, mean, high) in ends.items()}
        monkeypatch.setattr("steeldefect.report.low_data._against_real", lambda *_: found)
        return worth(family, arms, "mobilenet_v2", "org20")

    narrow = of(ends)
    assert narrow.low == -np.inf and 10 < narrow.high < 50 and narrow.knots == (10, 50, 170)
    # another knot takes nothing away
    del ends[170]
    assert of(ends).high == narrow.high
    # one run has no interval: any number may be meant
    assert of({10: (None, 1.5, None), 50: (None, -29.0, None)}).text() == "11 [under 10, over 50] n=2"


def test_crossings_are_monotone():
    assert _crossing((1, 100), [1.0, -1.0]) == pytest.approx(10)
    # a rise is levelled out: 0.5 at both
    assert _crossing((1, 10, 100), _falling(known([0.4, 0.6, -0.5]))) == pytest.approx(10**1.5)
    # by what each is worth: 0.6 at both
    assert _falling(known([0.4, 0.6, -0.5], [100.0, 0.1, 0.1]))[:2] == pytest.approx([0.6, 0.6], abs=1e-3)
    assert (_crossing((1, 10), [0.2, 0.1]), _crossing((1, 10), [-0.1, -0.2])) == (np.inf, -np.inf)


def test_low_data_curves(tmp_path):
    family = families(arms_of("low_data"))[0]
    assert low_data_figure(family, tmp_path / "low")
    assert {path.name for path in tmp_path.iterdir()} == {"low.svg", "low.png"}
    untrained = arms_of("low_data", lambda records: [record | {"trained": False} for record in records])
    assert not low_data_figure(families(untrained)[0], tmp_path / "none")


def test_committed_studies_are_read_back(written, tmp_path):
    for study, folder in written.items():
        copy = Path(shutil.copytree(folder, tmp_path / study))
        again = tmp_path / f"{study} again"
        write_report(collect(copy), again, STUDY_GRIDS[study], again / "artifacts", study, figures=False)
        for name in GOLDEN_OF[study]:
            assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_declared_arms_are_missing_and_others_are_not_named():
    found = contrast_tables(arms_of("controls"), {"none": Declared(["mobilenet_v2"], ["org100", "org30"])})
    rows = [one for table in found for one in table.contrasts if one.mix == "org30"]
    assert rows and all(one.found == Missing("missing") for one in rows)
    assert {one.group.augment for one in rows} == {"none"} and {one.group.schedule for one in rows} == {"fixed_steps"}
