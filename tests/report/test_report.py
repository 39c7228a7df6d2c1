import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from steeldefect.report.arms import Arms, Group, groups, study_records
from steeldefect.report.collect import Collection, collect, folders, read_records, write_committed
from steeldefect.report.tables import SUMMARY, paper_table, table2, table3
from steeldefect.report.write import Grid, write_report
from steeldefect.runs.errors import UserError
from steeldefect.runs.portable import without_paths
from tests.report.make_fixture import EXPECTED, FIXTURE, GOLDEN, GRID, STUDY_GRIDS, make_record

ROOT = Path(__file__).resolve().parents[2]
GROUP = Group("neu_cls", "grouped", "cpu", "fixed_steps", "edcgan", "none", None)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("report")
    write_report(collect(FIXTURE), output, GRID, output / "artifacts", "table3")
    return output


@pytest.fixture
def cells(tmp_path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(FIXTURE, tmp_path / "source")) / "cells"


def record(**changes) -> dict:
    labels = np.repeat(np.arange(6), 4)
    made = make_record("0" * 12, "mobilenet_v2", changes.pop("mix", "org100"), 0, True, labels, labels)
    return made | changes


def edit(folder: Path, **changes) -> None:
    path = folder / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("name", GOLDEN)
def test_the_fixture_gives_the_committed_tables(written, name):
    assert (written / name).read_text() == (EXPECTED / name).read_text()


def test_a_figure_by_hand():
    """MobileNetV2, org20: the mean of the two records' AP, computed from their confusion matrices."""
    own = [r for r in read_records(FIXTURE) if (r["classifier"], r["mix"]) == ("mobilenet_v2", "org20")]
    values = []
    for each in own:
        counts = np.array(each["confusion"])
        values.append(np.mean((counts.diagonal() / counts.sum(0) + counts.diagonal() / counts.sum(1)) / 2))
    rows = list(csv.DictReader((EXPECTED / "table3.csv").open()))
    shown = [r for r in rows if (r["metric"], r["row"], r["column"]) == ("mean_pr", "mobilenet_v2", "org20")]
    assert float(shown[0]["ours_percent"]) == pytest.approx(100 * np.mean(values), abs=1e-3)
    assert (shown[0]["n_runs"], shown[0]["paper_percent"]) == ("2", "99.11")


def test_holes_are_named():
    arms = Arms(collect(FIXTURE), GROUP)
    table = table3(arms, GRID.table3_classifiers, GRID.table3_mixes)
    text = {name: [entry.text() for entry in entries] for name, entries in table.rows}
    assert text["vgg16"][:2] == ["not trained", "not trained"] and text["vgg16"][3] == "not trained"
    assert text["resnet19"][2] == "missing" and text["resnet19"][1].endswith("n=1 (1 not trained)")
    assert text["small_cnn"][1].endswith("n=1 (1 missing)")
    by_class = table2(arms, GRID.table2_mixes)
    assert [entry.text() for entry in dict(by_class.rows)["org30"]] == ["missing"] * 7
    assert all(cell for line in [*table.lines(), *by_class.lines()] for cell in line[2:])
    # a replicate that the grid declares and nobody has
    short = table3(Arms(collect(FIXTURE), GROUP, [0, 1, 2]), ["mobilenet_v2"], ["org100"])
    assert short.rows[0][1][0].text().endswith("n=2 (1 missing)")


def test_the_paper_stands_beside_ours_under_its_own_name():
    found = collect(FIXTURE)
    arms = Arms(found, GROUP)
    means = [line[-1] for line in table2(arms, GRID.table2_mixes).lines() if line[1] == "paper"]
    # paper: the means of Table 2's rows are the MobileNet V2 row of Table 3 (99.12 is printed as 99.11)
    assert (means[0], means[-1]) == (paper_table("table3")["mobilenet_v2"]["org100"], "97.92")
    for each in found.records:
        each["dataset"] = "rendered"
    lines = list(table3(Arms(found, GROUP._replace(dataset="rendered")), ["vgg16"], ["org100"]).lines())
    assert ("", "paper (NEU-CLS)", "95.81") in lines


def test_summary_is_long_and_in_fractions():
    with (EXPECTED / "summary.csv").open() as file:
        reader = csv.DictReader(file)
        assert tuple(reader.fieldnames) == SUMMARY
        rows = list(reader)
    design = "study,dataset,split,scale,schedule,gan,mix,augment,real_per_class,classifier,class,metric,mean,low,high"
    assert ",".join(SUMMARY) == f"{design},n_runs,n_images,n_scenes,trained"
    for row in rows:
        assert (row["trained"] == "true") == (row["mean"] != "")
        if int(row["n_runs"]) >= 2 and row["low"]:  # runs without predictions that are all equal have none
            assert float(row["low"]) <= float(row["mean"]) <= float(row["high"])
        if "_minus_" not in row["metric"] and row["mean"]:
            assert 0 <= float(row["mean"]) <= 1
    assert {row["gan"] for row in rows if row["mix"] == "org100"} == {"none"}
    key = ("classifier", "mix", "gan", "class", "metric")
    assert len({tuple(row[k] for k in key) for row in rows}) == len(rows)
    assert not [row for row in rows if row["classifier"] == "vgg16" and "_minus_" in row["metric"]]
    whole = [row for row in rows if (row["classifier"], row["mix"]) == ("mobilenet_v2", "org20")]
    assert {(row["n_images"], row["n_scenes"]) for row in whole} == {("144", "54")}


def test_committed_results_give_the_same_tables(written, tmp_path):
    """records.jsonl and predictions.csv, read from a folder above them, hold all that the tables need."""
    again = tmp_path / "again"
    write_report(collect(written.parent / written.name), again, GRID, tmp_path / "artifacts", "table3")
    for path in sorted(path for path in written.rglob("*") if path.is_file()):
        assert (again / path.relative_to(written)).read_bytes() == path.read_bytes(), path.name
    assert "/home" not in (written / "records.jsonl").read_text() + (written / "README.md").read_text()


def test_a_study_goes_on_from_what_another_machine_committed(written, tmp_path):
    """Committed records of one half of the cells beside the other half as artifacts give the report of all, byte for byte."""
    whole, ours = collect(FIXTURE), Path(shutil.copytree(FIXTURE, tmp_path / "artifacts"))
    first = whole.records[::2]
    for record in first[1:]:  # one cell stands in both
        shutil.rmtree(ours / "cells" / record["id"])
    (tmp_path / "theirs").mkdir()
    write_committed(
        Collection(first, {r["id"]: whole.tested[r["id"]] for r in first if r["id"] in whole.tested}),
        tmp_path / "theirs",
    )
    both = collect(*folders([str(ours), str(tmp_path / "theirs")]))
    assert [record["id"] for record in both.records] == [record["id"] for record in whole.records]
    write_report(both, tmp_path / "again", GRID, tmp_path / "none", "table3")
    for path in sorted(path for path in written.rglob("*") if path.is_file()):
        assert (tmp_path / "again" / path.relative_to(written)).read_bytes() == path.read_bytes(), path.name


def test_paths_are_cut_to_their_names():
    kept = {"command": "python experiments/x.py dataset.root=/home/me/neu 'a=[~/b/c]' out=../d/e", "n": 1}
    cut = without_paths(kept | {"file": "/a/b/c.bmp", "parts": ["/x/y"], "lr": "1/2"})
    assert cut["command"] == "python experiments/x.py dataset.root=neu 'a=[c]' out=e"
    assert (cut["file"], cut["parts"], cut["lr"], cut["n"]) == ("c.bmp", ["y"], "1/2", 1)


def test_figures_of_an_earlier_report_go_and_others_stay(tmp_path):
    folder = tmp_path / "figures"
    folder.mkdir()
    gone = folder / "differences-other-grouped-cpu.svg"
    kept = [folder / "by_hand.png", folder / "synthetic-other-grouped-cpu.png"]  # the bank may be gone
    for path in (gone, gone.with_suffix(".png"), *kept):
        path.write_text("")
    write_report(collect(FIXTURE), tmp_path, GRID, tmp_path / "none", figures=False)
    assert gone.exists()  # figures were not asked for
    write_report(collect(FIXTURE), tmp_path, GRID, tmp_path / "none", figures="differences")
    linked = set(re.findall(r"figures/(.+?)\.svg", (tmp_path / "report.md").read_text()))
    assert linked and {path.name for path in folder.iterdir()} == {path.name for path in kept} | {
        f"{name}.{ending}" for name in linked for ending in ("svg", "png")
    }


def test_what_was_written_by_hand_in_a_readme_stays(tmp_path):
    write_report(collect(FIXTURE), tmp_path, GRID, tmp_path / "artifacts", "table3", figures=False)
    readme = tmp_path / "README.md"
    readme.write_text(readme.read_text() + "\nThe sheet shows scratches.\n")
    write_report(collect(FIXTURE), tmp_path, GRID, tmp_path / "artifacts", "table3", figures=False)
    assert readme.read_text() == (EXPECTED / "README.md").read_text() + "\nThe sheet shows scratches.\n"


def test_what_was_not_asked_for_is_not_missing(tmp_path):
    """`where` narrows what a study declares, and the README tells how to ask the same again."""
    where = {"classifier": "mobilenet_v2", "mix": ["org100", "org20"], "real_per_class": None, "augment": "none"}
    grid = replace(STUDY_GRIDS["controls"], replicates=[0, 1, 2, 3, 4, 5])
    found = collect(FIXTURE / "controls")
    report = write_report(found, tmp_path, grid, tmp_path / "artifacts", "controls", where, figures=False)
    pairs = {(one.classifier, one.mix, one.arm) for table in report.contrasts for one in table.listed}
    assert pairs == {
        ("mobilenet_v2", "org20", "org100"),
        ("mobilenet_v2", "org20", "classical"),
        ("mobilenet_v2", "org100 (fixed_steps)", "org100 (paper)"),
    }
    # Holm's family stays what the study declares
    declared = {(one, mix) for one in grid.arms["none"].classifiers for mix in grid.arms["none"].mixes}
    assert int(report.contrasts[0].note.split()[2]) > len(declared) > len(pairs)
    told = (tmp_path / "README.md").read_text().partition("output=DIR ")[2].partition("`")[0]
    given = OverridesParser.create().parse_overrides(shlex.split(told))
    wanted = {"study": "controls", "grid.replicates": grid.replicates, "where": where}
    assert {one.key_or_group: one.value() for one in given} == wanted


def test_recipes_are_not_mixed(cells):
    edit(cells / "000000000000", recipe=2)
    with pytest.raises(UserError, match=r"more than one recipe.*; 2: 000000000000; .*where=\{recipe: 1\}"):
        Arms(collect(cells), GROUP)


def test_two_cells_in_one_place_are_refused(cells):
    shutil.copytree(cells / "000000000000", cells / "ffffffffffff")
    edit(cells / "ffffffffffff", id="f" * 12, config={"classifier": {"name": "mobilenet_v2"}, "optimizer": {"lr": 0.1}})
    found = collect(cells)
    with pytest.raises(UserError, match=r"000000000000 and f{12}.*replicate 0; they differ in dataset, optimizer\.lr"):
        Arms(found, GROUP)
    found.records = study_records(found.records, {"optimizer.lr": 0.03})
    assert "f" * 12 not in {each["id"] for each in Arms(found, GROUP).records}


def test_data_sets_of_one_name_are_not_mixed(cells):
    ids = json.loads((cells / "000000000000" / "record.json").read_text())["ids"]
    edit(cells / "000000000000", ids=ids | {"dataset": "0" * 12})
    found = collect(cells)
    with pytest.raises(UserError, match=r"more than one data set.*'where=\{ids\.dataset: [0-9a-f]{12}\}'$"):
        Arms(found, GROUP)
    found.records = study_records(found.records, {"ids.dataset": ids["dataset"]})
    assert "000000000000" not in {each["id"] for each in Arms(found, GROUP).records}


def test_damaged_records_are_named_and_left_out(cells, tmp_path):
    (cells / "000000000000" / "record.json").write_text('{"id": "0000')
    edit(cells / "000000000001", metrics={"accuracy": 1.5, "mean_pr": 0.5})
    edit(cells / "000000000100", trained="yes")
    (cells / "000000000101" / "manifest.json").unlink()
    (cells / ".000000000200.partial").mkdir()
    found = collect(cells)
    assert len(found.records) == 24 - 4
    assert [line.split(":")[0] for line in found.skipped] == ["000000000000", "000000000001", "000000000100"]
    assert "damaged" in found.skipped[0] and "metrics.accuracy=1.5" in found.skipped[1]
    assert str(tmp_path) not in " ".join(found.skipped)
    write_report(found, tmp_path / "out", GRID, tmp_path / "artifacts", "table3", figures=False)
    assert "3 records could not be read" in (tmp_path / "out" / "README.md").read_text()
    assert "3 records could not be read" in (tmp_path / "out" / "report.md").read_text()


def test_a_truncated_committed_line_is_named(written, tmp_path):
    folder = Path(shutil.copytree(written, tmp_path / "table3"))
    lines = (folder / "records.jsonl").read_text().splitlines()
    (folder / "records.jsonl").write_text("\n".join([lines[0][:100], *lines[1:]]))
    found = collect(tmp_path)
    assert len(found.records) == len(lines) - 1
    assert found.skipped[0].startswith("table3/records.jsonl line 1: ")


def test_folders_without_records_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        read_records(tmp_path / "none")
    with pytest.raises(UserError, match="neither finished cells"):
        read_records(tmp_path)


def test_groups():
    """A cell without a bank belongs to each GAN, org20 to both schedules, and makes no table of its own."""
    both = ["fixed_steps", "paper"]
    fixed = [
        record(),
        record(mix="org20", schedules=both),
        record(mix="org20", schedules=both, gan="dcgan"),
        record(mix="org20", schedules=both, augment="classical", real_per_class=10),
    ]
    assert [(g.schedule, g.gan, g.augment, g.real_per_class) for g in groups(fixed)] == [
        ("fixed_steps", "dcgan", "none", None),
        ("fixed_steps", "edcgan", "none", None),
        ("fixed_steps", "edcgan", "classical", 10),
    ]
    assert [group.holds(fixed[0]) for group in groups(fixed)] == [True, True, False]
    assert [group.holds(fixed[1]) for group in groups(fixed)] == [False, True, False]
    paper = groups([*fixed, record(schedules=["paper"])])
    assert [g.gan for g in paper if g.schedule == "paper"] == ["dcgan", "edcgan"]
    assert groups([record()])[0].gan == "none"


def test_development_replicates_enter_no_table(tmp_path):
    found = collect(FIXTURE)
    for each in found.records:
        each["replicate"] += 102
    with pytest.raises(UserError, match="development"):
        write_report(found, tmp_path, GRID, tmp_path / "artifacts")


def test_arms_on_different_splits_are_not_paired(cells):
    ids = json.loads((cells / "000000000000" / "record.json").read_text())["ids"]
    edit(cells / "000000000000", ids=ids | {"split": "0" * 12})
    with pytest.raises(UserError, match="different splits"):
        table3(Arms(collect(cells), GROUP), ["mobilenet_v2"], ["org100", "org20"])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"optimizer": {"lr": 0.1}}, "optimizer.lr"),
        ({"classifier": {"name": "mobilenet_v2", "image_size": 128}}, "classifier.image_size"),
        ({"select": "validation"}, "select"),
        ({"phases": {"retrain": {"updates": 4}}}, "phases"),
    ],
)
def test_arms_trained_in_different_ways_are_not_paired(cells, changes, told):
    record = json.loads((cells / "000000000000" / "record.json").read_text())
    edit(cells / "000000000000", config=record["config"] | changes)
    # nor are its replicates one arm
    with pytest.raises(UserError, match=rf"on org100, replicates 0 and 1, differ in {told}"):
        Arms(collect(cells), GROUP)
    edit(cells / "000000000001", config=record["config"] | changes)
    with pytest.raises(UserError, match=rf"different ways \({told}"):
        table3(Arms(collect(cells), GROUP), ["mobilenet_v2"], ["org100", "org20"])


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"gan": {"optimizer": {"lr": 1}}}, "gan.optimizer.lr"), ({"bank": {"as_seen": False}}, "bank.as_seen")],
)
def test_banks_made_in_different_ways_are_not_one_arm(cells, changes, told):
    both = []
    for path in sorted(cells.glob("*/record.json")):
        record = json.loads(path.read_text())
        if (record["classifier"], record["mix"]) == ("mobilenet_v2", "org20"):
            config = record["config"] | {
                "gan": {"optimizer": {"lr": 2}, "sheet_every": len(both)},
                "bank": {"as_seen": True, "seed": 7},
            }
            # a key that came later, and what makes no other image
            edit(
                path.parent, config=config if both else config | {"bank": {"as_seen": True, "seed": 3, "filter": None}}
            )
            both.append((path.parent, config))
    assert len(both) == 2
    Arms(collect(cells), GROUP)
    folder, config = both[0]
    edit(folder, config=config | changes)
    with pytest.raises(UserError, match=rf"differ in {told}"):
        Arms(collect(cells), GROUP)


def test_pretrained_weights_are_no_part_of_a_mix(cells):
    record = json.loads((cells / "000000000000" / "record.json").read_text())
    for name in ("000000000000", "000000000001"):
        edit(cells / name, ids=record["ids"] | {"weights": "a" * 64})
    with pytest.raises(UserError, match=r"different ways \(weights"):
        table3(Arms(collect(cells), GROUP), ["mobilenet_v2"], ["org100", "org20"])


def test_the_verb_needs_no_torch(tmp_path):
    """The whole verb, in a process that counts its imports."""
    code = (
        "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__');"
        "print('torch' in sys.modules, 'lightning' in sys.modules)"
    )
    overrides = [
        f"source={FIXTURE}",
        f"output={tmp_path / 'out'}",
        f"artifacts={tmp_path / 'artifacts'}",
        "study=table3",
    ]
    command = [sys.executable, "-c", code, str(ROOT / "experiments" / "report.py"), *overrides]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False False"
    assert "Table 3: AP (paper)" in done.stdout and "not trained" in done.stdout and "\x1b" not in done.stdout
    for name in GOLDEN:
        assert (tmp_path / "out" / name).read_text() == (EXPECTED / name).read_text()


def test_a_grid_may_be_smaller_than_the_records(tmp_path):
    report = write_report(
        collect(FIXTURE),
        tmp_path,
        Grid(table2_mixes=["org20"], table3_classifiers=["vgg16"], table3_mixes=["org100", "org20"]),
        tmp_path,
        figures=False,
    )
    assert [name for name, _ in report.table2[0].rows] == ["org20", "org100", "org75", "org50", "org0"]
    assert [name for name, _ in report.table3[0].rows][:2] == ["vgg16", "mobilenet_v2"]
