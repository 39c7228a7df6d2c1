"""Bits that flip, files cut short, artifacts that vanish: noticed, named with what to do, or made again alike."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lightning import LightningModule

from steeldefect.classify.module import ClassifierModule
from steeldefect.gan.module import AdversarialModule
from steeldefect.report.collect import collect
from steeldefect.runs import store as store_module
from steeldefect.runs.errors import UserError
from steeldefect.runs.signals import Interrupted, stoppable
from steeldefect.runs.store import Store
from steeldefect.runs.training import LAST, whole_checkpoint
from tests.faults.test_stop import signal_in_update
from tests.stages import hashes, make

Copy = Callable[..., Path]


def flip(path: Path, keep_date: bool = True) -> None:
    """One bit in the middle of the file; its size stays, and its date too."""
    before, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def one(artifacts: Path, pattern: str) -> Path:
    (found,) = artifacts.glob(pattern)
    return found


@pytest.mark.parametrize(
    ("file", "without", "stage"),
    [
        ("gans/[!.]*/generator.pt", ("banks",), "synthesize"),
        ("banks/[!.]*/images.npy", ("cells", "initials"), "train_classifier"),
        ("banks/[!.]*/labels.npy", ("cells", "initials"), "train_classifier"),
        ("initials/[!.]*/weights.pt", ("cells",), "train_classifier"),
    ],
)
def test_a_flipped_bit_stops_the_stage_that_reads_it(
    copied: Copy, made: Path, file: str, without: tuple[str, ...], stage: str
) -> None:
    artifacts = copied(*without)
    path = one(artifacts, file)
    flip(path)
    with pytest.raises(UserError, match=rf"{path.name}: damaged or missing; delete the folder \S*{path.parent.name}"):
        make(stage, artifacts)
    # as told: the folder is deleted, what made it is run again, and all is as before
    shutil.rmtree(path.parent)
    kind = path.parent.parent.name
    makers = {"gans": "train_gan", "banks": "synthesize"}
    if kind in makers:
        make(makers[kind], artifacts)
    make(stage, artifacts)
    assert hashes(artifacts, kind) == hashes(made, kind)


def test_a_flipped_bit_in_a_cached_array_is_mended(copied: Copy, made: Path) -> None:
    artifacts = copied("gans")
    array = one(artifacts, "cache/*.npy")
    flip(array)
    make("train_gan", artifacts)
    assert np.array_equal(np.load(array), np.load(one(made, "cache/*.npy")))
    assert hashes(artifacts, "gans") == hashes(made, "gans")


@pytest.mark.parametrize("damage", [flip, lambda path: path.write_bytes(path.read_bytes()[:-40])])
@pytest.mark.parametrize("name", ["record.json", "predictions.csv"])
def test_a_damaged_record_is_left_out_of_the_report_and_named(copied: Copy, name: str, damage: Callable) -> None:
    artifacts = copied()
    cell = one(artifacts, "cells/[!.]*")
    shutil.copytree(cell, cell.with_name("0" * 12))
    damage(cell / name)
    found = collect(artifacts)
    assert [record["id"] for record in found.records] == [cell.name] and len(found.skipped) == 1
    assert cell.name in found.skipped[0] and f"{name}: damaged" in found.skipped[0]
    assert "delete the folder" in found.skipped[0]


@pytest.mark.parametrize("damage", [flip, lambda path: path.write_bytes(path.read_bytes()[:-40])])
def test_a_damaged_checkpoint_is_not_gone_on_from(
    copied: Copy, made: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    artifacts = copied("gans")
    with monkeypatch.context() as disturbed, pytest.raises(Interrupted), stoppable():
        signal_in_update(disturbed, AdversarialModule, 15, 4)
        make("train_gan", artifacts)
    damage(one(artifacts, f"gans/.*.partial/{LAST}"))
    make("train_gan", artifacts)
    assert "damaged (its checksum is another)" in caplog.text
    assert hashes(artifacts, "gans") == hashes(made, "gans")


def test_a_checkpoint_whose_sums_name_another_too_is_whole(tmp_path: Path) -> None:
    """As a kill between the two renames leaves it: the sums name the old and the new one."""
    from steeldefect.runs.training import SUMS, _put_in_place

    for text in ("first", "second"):
        new = tmp_path / "new"
        new.write_text(text)
        _put_in_place(new, tmp_path / LAST)
    assert len((tmp_path / SUMS).read_text().split()) == 2
    (tmp_path / LAST).write_text("first")
    assert whole_checkpoint(tmp_path) == tmp_path / LAST
    (tmp_path / LAST).write_text("third")
    assert whole_checkpoint(tmp_path) is None


class Killed(BaseException):
    """Stands for SIGKILL: nothing after it runs but what the context managers cannot help."""


@pytest.mark.parametrize("step", ["rmtree", "rename"])
def test_a_try_that_dies_while_it_is_published_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    identity = {"stage": "cell", "n": 1}

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as disturbed, pytest.raises(Killed), Store(tmp_path).write("cells", identity) as work:
        assert work is not None
        (work.folder / "weights.pt").write_text("of many hours")
        (work.folder / "log").mkdir()
        work.scratch.append("log")
        disturbed.setattr(*((store_module.shutil, "rmtree") if step == "rmtree" else (Path, "rename")), die)
    with Store(tmp_path).write("cells", identity) as work:
        assert work is None
    folder = one(tmp_path, "cells/[!.]*")
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "weights.pt"]


def test_what_a_kill_left_half_written_never_becomes_part_of_the_artifact(tmp_path: Path) -> None:
    identity = {"stage": "cell", "n": 1}
    partial = tmp_path / "cells" / f".{store_module.digest(identity)}.partial"
    partial.mkdir(parents=True)
    for name in (".record.json.123", ".last.ckpt", ".last.ckpt.sha256"):
        (partial / name).write_text("half")
    with Store(tmp_path).write("cells", identity) as work:
        assert work is not None
    assert [path.name for path in one(tmp_path, "cells/[!.]*").iterdir()] == ["manifest.json"]


@pytest.mark.parametrize("gone", ["cells/.*.partial", "banks/[!.]*"])
def test_an_artifact_removed_beneath_a_running_cell(
    copied: Copy, made: Path, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    """Its own folder: the cell fails with a message. Its bank, in memory by then: no harm. Both times all is well after."""
    artifacts = copied("cells", "initials")
    step, count = ClassifierModule.training_step, iter(range(100))

    def training_step(self: LightningModule, batch: object, batch_idx: int) -> object:
        if next(count) == 4:
            shutil.rmtree(one(artifacts, gone))
        return step(self, batch, batch_idx)

    with monkeypatch.context() as disturbed:
        disturbed.setattr(ClassifierModule, "training_step", training_step)
        if gone.startswith("cells"):
            with pytest.raises(OSError) as error:
                make("train_classifier", artifacts)
            from steeldefect.runs.errors import explained

            assert "was removed while it was needed" in str(explained(error.value, artifacts))
            make("train_classifier", artifacts)
        else:
            make("train_classifier", artifacts)
    assert hashes(artifacts, "cells") == hashes(made, "cells")


def test_a_clock_set_back_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(tmp_path).write("cells", {"n": 1}) as work:
        assert work is not None
        monkeypatch.setattr(time, "time", lambda: 0.0)
    manifest = json.loads(one(tmp_path, "cells/[!.]*/manifest.json").read_text())
    assert 0 <= manifest["made"]["seconds"] < 60


def test_weights_that_are_not_finite_never_replace_the_last_good_ones(
    copied: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts = copied("gans")
    step, count = AdversarialModule.training_step, iter(range(100))

    def training_step(self: AdversarialModule, batch: object, batch_idx: int) -> None:
        if next(count) == 4:  # in the second epoch
            next(self.generator.parameters()).data.fill_(float("nan"))
        step(self, batch, batch_idx)

    monkeypatch.setattr(AdversarialModule, "training_step", training_step)
    with pytest.raises(UserError, match=r"not finite at update 4 .*the last good checkpoint stands"):
        make("train_gan", artifacts, "trainer.checkpoint_seconds=0")
    import torch

    kept = torch.load(one(artifacts, f"gans/.*.partial/{LAST}"), weights_only=True)
    assert kept["epoch"] == 0 or kept["global_step"] == 6
    assert all(bool(torch.isfinite(value).all()) for value in kept["state_dict"].values())
