"""The verbs as a user types them, in processes of their own, on the smallest data set."""

import csv
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from steeldefect.runs.identity import digest
from steeldefect.runs.prepare import prepare
from steeldefect.runs.settings import CONF
from tests.conftest import ROOT, TINY, Compose

COMMON = [*TINY, "classifier=small_cnn"]
PREDICT = ROOT / "steeldefect" / "deploy" / "conf"


def verb(name: str, artifacts: Path, *overrides: str, logger: str = "csv") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(name, artifacts, *overrides, logger=logger),
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        env=environment(),
    )


def command(name: str, artifacts: Path, *overrides: str, logger: str = "csv") -> list[str]:
    script = str(ROOT / "experiments" / f"{name}.py")
    # Hydra takes its flags before the overrides
    flags, rest = [o for o in overrides if o.startswith("-")], [o for o in overrides if not o.startswith("-")]
    return [sys.executable, script, *flags, *COMMON, f"logger={logger}", f"artifacts={artifacts}", *rest]


def environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    return kept | {"OMP_NUM_THREADS": "1"}


def cells(artifacts: Path) -> dict[str, dict]:
    return {path.parent.name: json.loads(path.read_text()) for path in artifacts.glob("cells/*/record.json")}


def same_but_for_time(records: dict[str, dict]) -> dict[str, dict]:
    return {name: {k: v for k, v in r.items() if k not in ("cost", "environment")} for name, r in records.items()}


def tables(artifacts: Path, output: Path, mixes: str = "[org100, org20, org0]") -> dict[str, bytes]:
    """What a report says of replicates 0 and 1 at the default settings, but for hours, commands and commits."""
    where = f"where={{mix: {mixes}, optimizer.lr: 0.01, replicate: [0, 1]}}"
    done = verb("report", artifacts, f"output={output}", where, "figures=false", "study=table3")
    assert done.returncode == 0, done.stderr
    timed = {"README.md", "report.md", "records.jsonl"}
    return {path.name: path.read_bytes() for path in output.iterdir() if path.is_file() and path.name not in timed}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generator, bank and a sweep of three mixes, each made by its verb."""
    artifacts = tmp_path_factory.mktemp("run") / "artifacts"
    for name, *overrides in (
        ["train_gan"],
        ["synthesize", "bank.export=png"],
        ["train_classifier", "-m", "mix=org100,org20,org0"],
    ):
        done = verb(name, artifacts, *overrides)
        assert done.returncode == 0, done.stdout + done.stderr
    return artifacts


def test_the_pipeline_leaves_a_record_a_cell(finished: Path) -> None:
    assert sorted(record["mix"] for record in cells(finished).values()) == ["org0", "org100", "org20"]
    assert len(list(finished.glob("exports/bank-*/crazing/*.png"))) > 0


def test_a_finished_sweep_is_skipped(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.glob("cells/*/*")}
    done = verb("train_classifier", finished, "-m", "mix=org100,org20,org0")
    assert done.returncode == 0 and done.stderr.count("is finished") + done.stdout.count("is finished") == 3
    assert {path: path.stat().st_mtime_ns for path in finished.glob("cells/*/*")} == before


def test_a_sweep_killed_in_the_middle_and_started_again_trains_no_finished_cell_twice(
    finished: Path, tmp_path: Path
) -> None:
    artifacts = tmp_path / "artifacts"
    for name in ("train_gan", "synthesize"):
        assert verb(name, artifacts).returncode == 0
    sweep = command("train_classifier", artifacts, "-m", "mix=org100,org20,org0")
    process = subprocess.Popen(sweep, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    finished_cells, deadline = "cells/[!.]*/manifest.json", time.monotonic() + 300
    while not list(artifacts.glob(finished_cells)) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    survivors = {path: path.stat().st_mtime_ns for path in artifacts.glob(finished_cells)}
    assert 0 < len(survivors) < 3
    assert verb("train_classifier", artifacts, "-m", "mix=org100,org20,org0").returncode == 0
    assert {path: path.stat().st_mtime_ns for path in survivors} == survivors
    assert same_but_for_time(cells(artifacts)) == same_but_for_time(cells(finished))
    assert tables(artifacts, tmp_path / "again") == tables(finished, tmp_path / "straight")


def test_a_sweep_comes_back_to_a_cell_that_another_process_held(finished: Path, tiny: Compose) -> None:
    context = prepare(tiny("train_classifier", "classifier=small_cnn", "mix=org100", "replicate=5"))
    identifier = digest(context.cell_identity)
    with (finished / "cells" / f".{identifier}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        sweep = command("train_classifier", finished, "-m", "mix=org100", "replicate=5", "augment=none,classical")
        process = subprocess.Popen(
            sweep, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        said = ""
        while "waiting: " not in said and process.poll() is None:
            said += process.stdout.readline()
        assert {r["augment"] for r in cells(finished).values() if r["replicate"] == 5} == {"classical"}
    assert process.wait(timeout=300) == 0
    assert f"cells/{identifier} is being made by" in said and "comes back to it" in said
    assert {r["augment"] for r in cells(finished).values() if r["replicate"] == 5} == {"none", "classical"}


def test_a_plan_counts_what_is_done_shared_and_missing(finished: Path, tmp_path: Path) -> None:
    done = verb("plan", finished, "study=controls", "sweep.replicate=[0,1]")
    assert done.returncode == 0, done.stderr
    # eight arms of two replicates; the module's sweep has made org100, org20 and org0 of replicate 0
    assert "16 cells, 16 distinct" in done.stdout
    rows = [[part.strip() for part in line.strip("|").split("|")] for line in done.stdout.splitlines()]
    by_kind = {row[0]: row[1:8] for row in rows if row[0] in ("gans", "banks", "initials", "cells")}
    assert by_kind["gans"] == ["2", "10", "1", "0", "0", "0", "1"]
    assert by_kind["banks"] == ["2", "10", "1", "0", "0", "0", "1"]
    assert by_kind["cells"] == ["16", "16", "3", "0", "0", "0", "13"]
    # the originals' and org0's, without and with augmentation
    assert by_kind["initials"][0] == "8"
    assert "one after the other" in done.stdout
    # the same cells, made on a machine whose records are all that is at hand here
    report = verb("report", finished, f"output={tmp_path / 'theirs'}", "figures=false")
    assert report.returncode == 0, report.stderr
    (tmp_path / "ours").mkdir()
    away = verb("plan", tmp_path / "ours", "study=controls", "sweep.replicate=[0,1]", f"source={tmp_path / 'theirs'}")
    assert away.returncode == 0, away.stderr
    rows = [[part.strip() for part in line.strip("|").split("|")] for line in away.stdout.splitlines()]
    assert next(row[1:8] for row in rows if row[0] == "cells") == ["16", "16", "3", "0", "0", "0", "13"]
    wrong = verb("plan", finished, "study=control")
    assert wrong.returncode == 2 and "did you mean 'controls'" in wrong.stdout + wrong.stderr


def test_learning_rates_are_chosen_from_trials(finished: Path, tmp_path: Path) -> None:
    sweep = ["experiment=choose_lr", "optimizer.lr=1e-3,1e-2", "replicate=102,103"]
    done = verb("train_classifier", finished, "-m", *sweep)
    assert done.returncode == 0, done.stderr
    chosen = verb("choose_lr", finished, f"output={tmp_path}")
    assert chosen.returncode == 0, chosen.stderr
    lines = (tmp_path / "summary.csv").read_text().splitlines()
    assert len(lines) == 3 and sum(line.endswith(",true") for line in lines) == 1
    assert all("102 103" in line for line in lines[1:])


def test_a_missing_bank_ends_in_one_message_and_exit_code_2(tmp_path: Path) -> None:
    done = verb("train_classifier", tmp_path / "artifacts", "mix=org20")
    said = done.stdout + done.stderr
    assert done.returncode == 2
    assert "python experiments/synthesize.py" in said and "Traceback" not in said


def test_an_unknown_key_is_an_error(tmp_path: Path) -> None:
    done = verb("train_gan", tmp_path / "artifacts", "gan.epoch=3")
    assert done.returncode != 0 and "epoch" in done.stderr


def test_in_a_sweep_a_failed_cell_leaves_its_reason_and_the_others_go_on(finished: Path) -> None:
    """optimizer.lr=1e30 diverges; the other cell is done, the exit code says that something failed."""
    done = verb("train_classifier", finished, "-m", "mix=org100", "optimizer.lr=1e30,0.02", "phases.retrain.updates=50")
    assert done.returncode == 1
    assert "not finite" in done.stdout + done.stderr
    failures = [json.loads(path.read_text()) for path in finished.glob("*/.*.partial/failed.json")]
    assert any("not finite" in failure["error"] for failure in failures)
    assert any(record["config"]["optimizer"]["lr"] == 0.02 for record in cells(finished).values())


def test_wandb_runs_offline_without_a_key_and_one_run_a_cell(finished: Path) -> None:
    done = verb("train_classifier", finished, "-m", "mix=org50,org75", "study=trial", logger="wandb")
    assert done.returncode == 0, done.stderr
    runs = list((finished / "wandb").glob("offline-run-*"))
    assert len(runs) == 2
    logs = b"".join(path.read_bytes() for run in runs for path in run.glob("run-*.wandb"))
    assert b"trial" in logs and b"small_cnn" in logs


def test_help_begins_with_what_the_verb_does_and_loads_no_torch() -> None:
    script = """
import contextlib, io, json, runpy, sys
found = {}
for name in sys.argv[1:]:
    sys.argv = [f"experiments/{name}.py", "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
        runpy.run_path(sys.argv[0], run_name="__main__")
    found[name] = said.getvalue()
assert "torch" not in sys.modules
print(json.dumps(found))
"""
    run = [sys.executable, "-c", script, "audit", "predict", "train_gan"]
    done = subprocess.run(run, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    for name, said in json.loads(done.stdout).items():
        does, blank, groups, *_ = said.splitlines()
        command = "steeldefect-predict" if name == "predict" else f"python experiments/{name}.py"
        assert f": {command} " in does and not blank and groups == "== Configuration groups =="


def test_every_verb_goes_by_its_own_name_and_says_its_command() -> None:
    for path in ROOT.glob("experiments/*.py"):
        name = path.stem
        with initialize_config_dir(str(PREDICT if name == "predict" else CONF), version_base="1.3"):
            made = compose(name, return_hydra_config=True).hydra
        assert made.job.name == name
        assert OmegaConf.to_container(made.help)["header"] == "${verb_docstring:}\n"
        assert f": python experiments/{name}.py" in path.read_text().splitlines()[0]


def test_quality_and_the_table_of_generators(finished: Path) -> None:
    """One validation image a class is too few for KID; what the judges and the matcher say is there all the same."""
    small = ["classifier@quality.classifier=small_cnn", "quality.feature_size=32", "quality.copies_images=12"]
    done = verb("evaluate_gan", finished, *small)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "gan_train: " in done.stdout + done.stderr and "no class has enough images" in done.stdout + done.stderr
    report = verb("report", finished, f"output={finished / 'generators'}", "study=generators")
    assert report.returncode == 0, report.stdout + report.stderr
    assert "gan_test" in (finished / "generators" / "summary.csv").read_text()
    assert "GAN-train" in report.stdout


def test_report_and_status_read_what_the_sweep_left(finished: Path) -> None:
    overrides = ["study=table3", "grid.classifiers=[small_cnn]", "where={optimizer.lr: 0.01}"]
    report = verb("report", finished, f"output={finished / 'report'}", *overrides)
    assert report.returncode == 0, report.stderr
    text = (finished / "report" / "table3.md").read_text()
    assert "small_cnn" in text
    assert (finished / "logs" / "report" / "report.log").stat().st_size > 0
    status = verb("status", finished)
    assert status.returncode == 0 and "cells" in status.stdout


def test_differences_are_tested_in_the_metric_that_was_asked_for(tmp_path: Path) -> None:
    options = ["source=tests/report/fixture/controls", f"output={tmp_path}", "study=controls", "figures=false"]
    done = verb("report", tmp_path / "artifacts", *options, "metric=macro_f1")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "contrasts.csv").open() as file:
        assert {row["metric"] for row in csv.DictReader(file)} == {"macro_f1", "mean_pr"}
    assert "metric=macro_f1" in (tmp_path / "README.md").read_text()


def test_the_audit_on_trial_leaves_tables_and_their_command(tmp_path: Path) -> None:
    output = tmp_path / "trials"
    small = ["trials.plates=2", "trials.crops=2", "trials.size=64", f"output={output}"]
    done = verb("validate_audit", tmp_path / "artifacts", *small)
    assert done.returncode == 0, done.stderr
    text = (output / "README.md").read_text()
    assert "| periodic | 24 |" in text and "python experiments/validate_audit.py" in text
    # a quarter, half and all of 72 images, in two ways
    assert len((output / "growth.csv").read_text().splitlines()) == 7
    refused = verb("validate_audit", tmp_path / "artifacts", *small, "trials.sizes=[500]")
    assert refused.returncode == 2 and "trials.sizes=[500]" in refused.stdout
