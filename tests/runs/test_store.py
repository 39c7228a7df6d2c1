import json
import shutil
import threading
from pathlib import Path

import pytest

from steeldefect.runs.errors import MissingArtifact, UserError
from steeldefect.runs.identity import canonical, derived_seed, digest
from steeldefect.runs.store import Store, read_json, unfinished_by
from tests.runs.holder import holder

IDENTITY = {"stage": "cell", "n": 1}


def test_an_artifact_is_there_when_its_manifest_is(tmp_path: Path) -> None:
    store, identifier = Store(tmp_path), digest(IDENTITY)
    with store.write("cells", IDENTITY) as work:
        assert work is not None
        (work.folder / "record.json").write_text("{}")
        (work.folder / "last.ckpt").write_text("big")
        work.scratch.append("last.ckpt")
        work.summary["accuracy"] = 0.5
        assert (work.folder / "running.json").exists()
        assert not store.finished("cells", identifier)
    manifest = store.manifest("cells", identifier)
    assert manifest["identity"] == IDENTITY and manifest["summary"] == {"accuracy": 0.5}
    assert list(manifest["files"]) == ["record.json"]
    assert sorted(path.name for path in (tmp_path / "cells").iterdir()) == [identifier]
    with store.write("cells", IDENTITY) as work:
        assert work is None


def test_a_failed_try_leaves_its_reason_and_what_can_be_resumed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(RuntimeError), store.write("cells", IDENTITY) as work:
        assert work is not None
        (work.folder / "last.ckpt").write_text("half way")
        raise RuntimeError("disk on fire")
    assert not store.finished("cells", digest(IDENTITY))
    assert read_json(work.folder / "failed.json")["error"] == "RuntimeError: disk on fire"
    assert not (work.folder / "running.json").exists()
    with store.write("cells", IDENTITY) as again:
        assert again is not None
        assert (again.folder / "last.ckpt").read_text() == "half way"
        assert not (again.folder / "failed.json").exists()
    assert store.finished("cells", digest(IDENTITY))


def test_a_folder_without_a_manifest_is_replaced(tmp_path: Path) -> None:
    store = Store(tmp_path)
    garbage = store.folder("cells", digest(IDENTITY))
    garbage.mkdir(parents=True)
    (garbage / "record.json").write_text("half")
    with store.write("cells", IDENTITY) as work:
        assert work is not None
    assert not (garbage / "record.json").exists() and (garbage / "manifest.json").exists()


def test_a_holder_that_was_killed_blocks_nobody_and_is_known_by_its_process(tmp_path: Path) -> None:
    with holder(tmp_path, IDENTITY) as (process, _):
        pass
    assert process.pid is not None
    assert unfinished_by(tmp_path, process.pid) == [f"cells/{digest(IDENTITY)}"]
    with Store(tmp_path).write("cells", IDENTITY) as work:
        assert work is not None
    assert unfinished_by(tmp_path, process.pid) == []


def test_a_second_writer_is_told_who_holds_the_artifact_or_waits(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with holder(tmp_path, IDENTITY) as (process, release):
        told = pytest.raises(UserError, match=f"is being made by process {process.pid} on")
        with told, store.write("cells", IDENTITY):
            pass
        threading.Timer(0.5, release.set).start()
        with store.write("cells", IDENTITY, wait=True) as work:
            assert work is None


def test_what_is_missing_is_named_with_its_command(tmp_path: Path) -> None:
    with pytest.raises(MissingArtifact, match=r"bank abc is missing .*\n  python experiments/synthesize\.py"):
        Store(tmp_path).need("banks", "abc", "python experiments/synthesize.py")


def test_damaged_json_is_named_with_what_to_delete(tmp_path: Path) -> None:
    for content in ('{"a": ', "[]"):
        (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(UserError, match=r"manifest\.json: damaged .*delete the folder"):
            read_json(tmp_path / "manifest.json")


def test_the_same_content_gives_the_same_id_and_other_content_another() -> None:
    assert digest({"a": 1, "b": [1, 2.5]}) == digest({"b": (1.0, 2.5), "a": 1.0})
    assert digest({"a": 1}) != digest({"a": True}) != digest({"a": "1"})
    assert len(digest({})) == 12
    assert json.loads(canonical({"z": None, "a": 0.8})) == {"a": 0.8, "z": None}
    with pytest.raises(ValueError):
        canonical({"a": float("nan")})
    assert derived_seed(0, "a") != derived_seed(1, "a") != derived_seed(1, "b")


def test_an_interrupted_try_is_dead_not_failed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Store(tmp_path).write("cells", IDENTITY) as work:
        assert work is not None
        raise KeyboardInterrupt
    assert not (work.folder / "failed.json").exists()
    assert read_json(work.folder / "running.json")["pid"] > 0


def test_an_artifact_that_is_made_again_is_whole_at_every_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)

    def make(text: str) -> bool:
        with store.write("cells", IDENTITY, again=True) as work:
            if work is not None:
                (work.folder / "record.json").write_text(text)
        return work is not None

    make("old")
    identifier = digest(IDENTITY)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    # killed while the old one is removed
    with monkeypatch.context() as disturbed, pytest.raises(KeyboardInterrupt):
        disturbed.setattr("shutil.rmtree", die)
        make("new")
    assert (store.need("cells", identifier, "") / "record.json").read_text() == "new"
    # killed between the two renames: the new one is published, and not made a third time
    final, partial = tmp_path / "cells" / identifier, tmp_path / "cells" / f".{identifier}.partial"
    shutil.rmtree(tmp_path / "cells" / f".{identifier}.old")
    final.rename(partial)
    assert not make("third") and (store.need("cells", identifier, "") / "record.json").read_text() == "new"
    assert [path.name for path in (tmp_path / "cells").iterdir()] == [identifier]
