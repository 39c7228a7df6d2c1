"""What W&B is told, read back with its own reader; runs that were logged offline, uploaded to a peer on loopback."""

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from steeldefect.report import dashboard
from steeldefect.runs.loggers import wandb_run
from steeldefect.runs.settings import plain
from tests.stages import make, tiny

WANDB = str(Path(sys.executable).with_name("wandb"))
PEER = "openwandb"  # its licence is non-commercial: run by this test alone, in an environment of its own
KEY = "local" + 40 * "0"


def records(run: Path) -> list[dict]:
    """What lies in the log of one run, with wandb's own reader."""
    shown = subprocess.run([WANDB, "leet", "inspect", "--json", str(run)], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in shown.stdout.splitlines()]


def of_type(found: list[dict], kind: str) -> list[dict]:
    return [record[kind] for record in found if record["type"] == kind]


def keys_logged(found: list[dict]) -> set[str]:
    """Names of histories, summaries and media, nested ones by their first part."""
    names = {name for record in of_type(found, "history") for name in record.get("item", record)}
    names |= {name for record in of_type(found, "summary") for name in record["update"]}
    return {name.split("._type")[0].split(".")[0] for name in names}


@pytest.fixture(scope="session")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Artifacts of a generator and a cell, logged offline."""
    artifacts = tmp_path_factory.mktemp("tracked") / "artifacts"
    with pytest.MonkeyPatch.context() as patch:
        offline(patch)
        make("train_gan", artifacts, "logger=wandb")
        make("synthesize", artifacts)
        make("train_classifier", artifacts, "logger=wandb", "study=table3")
        yield artifacts


def offline(patch: pytest.MonkeyPatch) -> None:
    # what wandb_run sets lasts as long as the process; after the test it is as it was
    for name in ("ERROR_REPORTING", "DATA_DIR", "CACHE_DIR", "SILENT", "API_KEY"):
        patch.setenv(f"WANDB_{name}", "x")
        patch.delenv(f"WANDB_{name}")
    patch.setenv("WANDB_MODE", "offline")


def run_of(artifacts: Path, stage: str) -> list[dict]:
    (run,) = (artifacts / "wandb").glob(f"offline-run-*-{stage}-*")
    return records(run)


def test_a_cell_can_be_filtered_by_what_it_is(tracked: Path) -> None:
    found = run_of(tracked, "cell")
    (run,) = of_type(found, "run")
    (cell,) = tracked.glob("cells/*/record.json")
    assert run["run_id"] == f"cell-{cell.parent.name}" and run["job_type"] == "cell" and run["run_group"] == "table3"
    assert run["display_name"] == "small_cnn-org20-r0" and set(run["tags"]) == {"org20", "small_cnn"}
    config = run["config"]["update"]
    names = ("dataset", "split", "gan", "mix", "classifier", "schedule", "scale")
    expected = ["rendered", "grouped", "edcgan", "org20", "small_cnn", "fixed_steps", "smoke"]
    assert [config[f"{name}_name"] for name in names] == expected
    assert config["replicate"] == 0 and config["artifact"] == cell.parent.name
    assert str(tracked) not in json.dumps(config)
    logged = {key: value for record in of_type(found, "summary") for key, value in record["update"].items()}
    record = json.loads(cell.read_text())
    assert logged["test/mean_pr"] == pytest.approx(record["metrics"]["mean_pr"])
    assert logged["trained"] == record["trained"]


def test_a_generator_bears_no_name_of_a_mix(tracked: Path) -> None:
    found = run_of(tracked, "gan")
    (run,) = of_type(found, "run")
    assert run["display_name"] == "edcgan-rendered-smoke-r0" and run["job_type"] == "gan"
    config = run["config"]["update"]
    assert config["gan_name"] == "edcgan" and config["split_name"] == "grouped"
    assert not {"mix_name", "classifier_name", "schedule_name"} & set(config)
    media = [file["path"] for files in of_type(found, "files") for file in files["files"]]
    assert sum(path.startswith("media/images/gan/samples_") for path in media) == 2  # scale=smoke: two epochs


def dashboard_settings(artifacts: Path, *overrides: str) -> dict:
    return plain(tiny("dashboard", artifacts, *overrides))


def test_the_dashboard_asks_for_nothing_that_is_not_logged(
    tracked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline(monkeypatch)
    settings = dashboard_settings(tracked)
    dashboard.publish(settings, {"mixes": ["org100", "org20"], "classifiers": ["small_cnn"]}, tmp_path)
    cell, generator = run_of(tracked, "cell"), run_of(tracked, "gan")
    configs = of_type(cell, "run")[0]["config"]["update"]
    logged = keys_logged(cell) | keys_logged(generator)
    assert {*dashboard.SHOWN, *dashboard.COMPARED} <= set(configs)
    curves = {name for pair in dashboard.GAN_CURVES for name in pair}
    wanted = {*dashboard.MEASURES, *dashboard.CURVES, *curves, dashboard.SHEETS, *dashboard.TABLES, "trained", "epoch"}
    assert wanted <= logged
    workspace, report = ((tmp_path / f"{name}.json").read_text() for name in ("workspace", "report"))
    for text in (workspace, report):
        spec = json.loads(text)
        assert spec["spec"] and all(f'"{name}' in text for name in ("gan/samples", "mix_name", "classifier_name"))
    sections = json.loads(workspace)["spec"]["section"]["panelBankConfig"]["sections"]
    panels = {section["name"]: len(section["panels"]) for section in sections}
    assert panels["Mixes, classifiers, seeds"] == 9 and panels["Generators"] == 3
    # runs of another data set, split or scale are never averaged with these
    (runset,) = json.loads(workspace)["spec"]["section"]["runSets"]
    filters = {item["key"]["name"]: item["value"] for item in runset["filters"]["filters"] if "key" in item}
    assert filters == {"dataset_name": "rendered", "split_name": "grouped", "scale_name": "smoke"}


def test_offline_the_dashboard_says_how_to_publish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from experiments.dashboard import main

    offline(monkeypatch)
    with caplog.at_level("INFO"):
        main.__wrapped__(tiny("dashboard", tmp_path))
    assert "WANDB_API_KEY" in caplog.text and "make sync" in caplog.text
    report = (tmp_path / "dashboard" / "report.json").read_text()
    assert all(f'"{mix}"' in report for mix in ("org100", "org75", "org20", "org0"))  # as Table 2 declares them


def interrupted_then_done(artifacts: Path) -> None:
    """One artifact in two tries: the first dies after update 1, the second goes on to update 2."""
    settings = plain(tiny("train_classifier", artifacts, "logger=wandb"))
    for update in (1, 2):
        try:
            with wandb_run(settings, "cell", "0123456789ab", "resumed", ["org20"]) as (logger,):
                logger.log_metrics({"train/loss": 1 / update}, step=update)
                if update == 1:
                    raise RuntimeError("killed")
        except RuntimeError:
            pass
        time.sleep(1.1)  # folders of runs are named by the second


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Address and data base of a W&B-compatible server on loopback."""
    program = os.environ.get("STEELDEFECT_OPENWANDB") or shutil.which(PEER)
    if program is None:
        pytest.skip(
            f"{PEER} is not here: python -m venv X && X/bin/pip install {PEER}==0.5.25, then STEELDEFECT_OPENWANDB=X/bin/{PEER}"
        )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address, data = f"http://127.0.0.1:{port}", tmp_path / "peer"
    command = [program, "serve", "--host", "127.0.0.1", "--port", str(port), "--data-dir", str(data)]
    with (tmp_path / "peer.log").open("w") as log:
        # away from this environment's packages
        own = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"HOME": str(tmp_path)}
        server = subprocess.Popen(command, stdout=log, stderr=log, env=own)
    try:
        deadline = time.monotonic() + 90
        while not answers(address):
            assert server.poll() is None and time.monotonic() < deadline, (tmp_path / "peer.log").read_text()
            time.sleep(0.3)
        yield address, data / "openwandb.db"
    finally:
        server.terminate()
        server.wait(20)


def answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=2).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def test_sync_makes_one_run_of_a_resumed_cell(
    tracked: Path, tmp_path: Path, peer: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    offline(monkeypatch)
    address, base = peer
    artifacts = tmp_path / "artifacts"
    shutil.copytree(tracked / "wandb", artifacts / "wandb", symlinks=True)
    interrupted_then_done(artifacts)
    assert len(list((artifacts / "wandb").glob("offline-run-*-cell-0123456789ab"))) == 2
    kept = {k: v for k, v in os.environ.items() if k not in ("WANDB_MODE", "WANDB_DATA_DIR", "WANDB_CACHE_DIR")}
    own = kept | {"WANDB_BASE_URL": address, "WANDB_API_KEY": KEY, "HOME": str(tmp_path)}
    # as `make sync` does
    done = subprocess.run([WANDB, "sync", "--yes"], cwd=artifacts, env=own, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with sqlite3.connect(base) as connection:
        runs = dict(connection.execute("select run_id, display_name from runs"))
        losses = connection.execute(
            "select value from metrics where run_id = 'cell-0123456789ab' and key = 'train/loss' order by id"
        ).fetchall()
    (cell,), (generator,) = tracked.glob("cells/*"), tracked.glob("gans/*")
    assert runs == {
        f"cell-{cell.name}": "small_cnn-org20-r0",
        f"gan-{generator.name}": "edcgan-rendered-smoke-r0",
        "cell-0123456789ab": "resumed",
    }
    assert losses == [(1.0,), (0.5,)]  # what both tries logged
