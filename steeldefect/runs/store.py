"""Artifacts on disk: one folder each, finished exactly when it holds a manifest."""

import contextlib
import fcntl
import functools
import json
import os
import shutil
import socket
import tempfile
import time
import traceback
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from steeldefect.runs import ranks
from steeldefect.runs.environment import command_line, git_commit, versions
from steeldefect.runs.errors import Held, MissingArtifact, UserError
from steeldefect.runs.identity import digest, file_sha256

KINDS = ("scenes", "splits", "gans", "banks", "initials", "cells", "trials", "judges", "quality")
MANIFEST = "manifest.json"
PUBLISHED = "published"  # what process 0 says at the end


@dataclass
class Work:
    """The folder of an artifact in the making; what it still holds of an interrupted try may be resumed."""

    folder: Path
    summary: dict[str, Any] = field(default_factory=dict)
    # names in the folder that must not become part of the artifact (checkpoints, logs of the try)
    scratch: list[str] = field(default_factory=list)
    # that earlier tries spent on what this one went on from
    seconds_before: float = 0.0


class Store:
    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def folder(self, kind: str, identifier: str) -> Path:
        if kind not in KINDS:
            raise ValueError(f"kind {kind!r} is none of {KINDS}")
        return self.root / kind / identifier

    def finished(self, kind: str, identifier: str) -> bool:
        return (self.folder(kind, identifier) / MANIFEST).is_file()

    def manifest(self, kind: str, identifier: str) -> dict[str, Any]:
        return read_json(self.folder(kind, identifier) / MANIFEST)

    def need(self, kind: str, identifier: str, command: str) -> Path:
        """The finished folder, its files as they were written, else `MissingArtifact` with the command that makes it."""
        if not self.finished(kind, identifier):
            raise MissingArtifact(
                f"{kind[:-1]} {identifier} is missing under {self.root / kind}: make it with\n  {command}"
            )
        folder = self.folder(kind, identifier)
        verify(folder, command)
        return folder

    @contextlib.contextmanager
    def write(
        self, kind: str, identity: Mapping[str, Any], wait: bool = False, again: bool = False
    ) -> Iterator[Work | None]:
        """Make the artifact that `identity` names; yields None where it is finished already, unless `again`.

        The work goes on in `.<id>.partial` beside the final folder, which survives a failed or killed try.
        A try that is interrupted (a signal, ctrl-C) counts as dead, one that raises as failed, with its traceback.
        On a clean exit the manifest is written last, what it does not name is removed, and one rename publishes the
        folder; a try that died in between is published as it is. One writer at a time: a second one waits
        (`wait=True`) or gets `Held`, which says who holds the lock. Under trainer=ddp process 0 writes, the others work
        in a folder that is thrown away.
        """
        if ranks.here().rank:
            with _follow() as followed:
                yield followed
            return
        with self._lead(kind, identity, wait, again) as work:
            ranks.told("" if work is None else str(work.folder))
            yield work
        if work is not None:
            ranks.told(PUBLISHED)

    @contextlib.contextmanager
    def _lead(self, kind: str, identity: Mapping[str, Any], wait: bool, again: bool) -> Iterator[Work | None]:
        identifier = digest(identity)
        final = self.folder(kind, identifier)
        if self.finished(kind, identifier) and not again:
            yield None
            return
        final.parent.mkdir(parents=True, exist_ok=True)
        partial = final.parent / f".{identifier}.partial"
        with _lock(final.parent / f".{identifier}.lock", partial, wait):
            if sealed := (partial / MANIFEST).exists():
                _publish(partial, final)
            # one that was made again and only not published yet is not made a third time
            if self.finished(kind, identifier) and (sealed or not again):
                yield None
                return
            partial.mkdir(exist_ok=True)
            (partial / "failed.json").unlink(missing_ok=True)
            started = time.monotonic()
            git_commit()  # kept by its cache: the code that started, not what lies there at the end
            running = _worker() | {"started": _now(), "identity": dict(identity)}
            write_json(partial / "running.json", running)
            work = Work(partial)
            try:
                yield work
            except Exception as error:
                # on a full disk, or where the folder is gone, the reason cannot be left; it is still raised
                with contextlib.suppress(OSError):
                    write_json(partial / "failed.json", _worker() | _failure(error))
                    (partial / "running.json").unlink(missing_ok=True)
                raise
            manifest = {"schema": 1, "kind": kind, "id": identifier, "identity": dict(identity)}
            _seal(work, manifest, time.monotonic() - started)
            _publish(partial, final)


@contextlib.contextmanager
def _follow() -> Iterator[Work | None]:
    """What process 0 has found, for the others."""
    if not ranks.told(""):
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="steeldefect-") as folder:
        yield Work(Path(folder))
    ranks.told("")


def verify(folder: Path, command: str = "", names: Container[str] | None = None) -> None:
    """`UserError` unless the files of a finished artifact (`names`, else all) are as they were written.

    Whole files are hashed, once a process: whoever asks is about to read them, and a size and a date would not show a
    flipped bit. A manifest without `files` (of records made elsewhere) promises nothing.
    """
    files = read_json(folder / MANIFEST).get("files", {})
    try:
        promised = {name: (str(of["sha256"]), int(of["bytes"])) for name, of in files.items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UserError(f"{folder / MANIFEST}: damaged (files); delete the folder {folder}") from None
    for name, (sha256, size) in promised.items():
        path = folder / name
        if names is not None and name not in names:
            continue
        try:
            state = path.stat()
            same = state.st_size == size and _sha256(path, state.st_mtime_ns) == sha256
        except OSError:
            same = False
        if not same:
            again = f"\n  {command}" if command else " the command that made it"
            raise UserError(f"{path}: damaged or missing; delete the folder {folder} and give again{again}")


@functools.lru_cache(maxsize=1024)
def _sha256(path: Path, changed: int) -> str:
    return file_sha256(path)


def unfinished_by(root: Path, pid: int) -> list[str]:
    """`<kind>/<id>` of what a process of this machine was making when it stopped, the outermost first."""
    found = []
    for kind in reversed(KINDS):
        for note in sorted((root / kind).glob(".*.partial/*.json")):
            if note.name in ("running.json", "failed.json"):
                with contextlib.suppress(UserError, OSError):
                    worker = read_json(note)
                    if (worker.get("host"), worker.get("pid")) == (socket.gethostname(), pid):
                        found.append(f"{kind}/{note.parent.name[1 : -len('.partial')]}")
    return found


def _seal(work: Work, manifest: dict[str, Any], seconds: float) -> None:
    """Write the manifest: from here on the artifact is whole, whatever happens; names with a dot are a try's own."""
    left_out = {*work.scratch, "running.json", MANIFEST}
    files = {}
    for path in sorted(work.folder.rglob("*")):
        name = path.relative_to(work.folder)
        if path.is_file() and name.parts[0] not in left_out and not name.parts[0].startswith("."):
            _to_disk(path)
            files[name.as_posix()] = {"sha256": file_sha256(path), "bytes": path.stat().st_size}
    made = {
        "utc": _now(),
        "seconds": round(work.seconds_before + seconds, 3),
        "commit": git_commit(),
        "command": command_line(),
        "versions": versions(),
    }
    write_json(work.folder / MANIFEST, manifest | {"files": files, "summary": work.summary, "made": made})
    _to_disk(work.folder / MANIFEST)


def _publish(partial: Path, final: Path) -> None:
    """What the manifest does not name goes, the rest becomes the artifact."""
    kept = {Path(name).parts[0] for name in read_json(partial / MANIFEST)["files"]} | {MANIFEST}
    for path in partial.iterdir():
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    # made again, or without a manifest and so garbage by definition; moved aside whole, since half of it would pass for all
    old = final.parent / f".{final.name}.old"
    if old.exists():
        shutil.rmtree(old)
    if final.exists():
        final.rename(old)
    partial.rename(final)
    _to_disk(final.parent)
    if old.exists():
        shutil.rmtree(old)


def _to_disk(path: Path) -> None:
    """A rename may reach the disk before what it renames; after a power cut a manifest would stand over nothing."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _lock(path: Path, partial: Path, wait: bool) -> Iterator[None]:
    """Hold an exclusive lock on `path`; the kernel drops it with the process, so a dead holder blocks nobody."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Held(f"{partial.parent.name}/{path.name[1:-5]} is being made by {_holder(partial)}") from None
        yield
    path.unlink(missing_ok=True)


def _holder(partial: Path) -> str:
    try:
        running = read_json(partial / "running.json")
        return f"process {running['pid']} on {running['host']} since {running['started']}: wait for it or stop it"
    except (UserError, KeyError):
        return "another process: wait for it or stop it"


def _failure(error: BaseException) -> dict[str, Any]:
    return {
        "error": f"{type(error).__name__}: {error}",
        "traceback": "".join(traceback.format_exception(error)),
        "time": _now(),
    }


def _worker() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid()}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: damaged ({error}); delete the folder {path.parent} to have it made again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: damaged (no JSON object); delete the folder {path.parent} to have it made again")
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Written beside and renamed, so that a reader never sees half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")
    temporary.replace(path)
