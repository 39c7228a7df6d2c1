"""Artifacts on disk: one folder each, finished exactly when it holds a manifest."""

import contextlib
import fcntl
import json
import os
import shutil
import socket
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from steeldefect.runs.environment import command_line, git_commit, versions
from steeldefect.runs.errors import Held, MissingArtifact, UserError
from steeldefect.runs.identity import digest, file_sha256

KINDS = ("scenes", "splits", "gans", "banks", "initials", "cells", "trials", "judges", "quality")
MANIFEST = "manifest.json"


@dataclass
class Work:
    """The folder of an artifact in the making; what it still holds of an interrupted try may be resumed."""

    folder: Path
    summary: dict[str, Any] = field(default_factory=dict)
    # names in the folder that must not become part of the artifact (checkpoints, logs of the try)
    scratch: list[str] = field(default_factory=list)


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
        """The finished folder, else `MissingArtifact` with the command that makes it."""
        if not self.finished(kind, identifier):
            raise MissingArtifact(
                f"{kind[:-1]} {identifier} is missing under {self.root / kind}: make it with\n  {command}"
            )
        return self.folder(kind, identifier)

    @contextlib.contextmanager
    def write(
        self, kind: str, identity: Mapping[str, Any], wait: bool = False, again: bool = False
    ) -> Iterator[Work | None]:
        """Make the artifact that `identity` names; yields None where it is finished already, unless `again`.

        The work goes on in `.<id>.partial` beside the final folder, which survives a failed or killed try.
        A try that is interrupted (a signal, ctrl-C) counts as dead, one that raises as failed, with its traceback.
        On a clean exit the manifest is written last and one rename publishes the folder. One writer at a
        time: a second one waits (`wait=True`) or gets `Held`, which says who holds the lock.
        """
        identifier = digest(identity)
        final = self.folder(kind, identifier)
        if self.finished(kind, identifier) and not again:
            yield None
            return
        final.parent.mkdir(parents=True, exist_ok=True)
        partial = final.parent / f".{identifier}.partial"
        with _lock(final.parent / f".{identifier}.lock", partial, wait):
            if self.finished(kind, identifier) and not again:
                yield None
                return
            partial.mkdir(exist_ok=True)
            (partial / "failed.json").unlink(missing_ok=True)
            started = time.time()
            git_commit()  # kept by its cache: the code that started, not what lies there at the end
            running = {"host": socket.gethostname(), "pid": os.getpid(), "started": _utc(started)}
            write_json(partial / "running.json", running | {"identity": dict(identity)})
            work = Work(partial)
            try:
                yield work
            except Exception as error:
                write_json(partial / "failed.json", _failure(error))
                (partial / "running.json").unlink(missing_ok=True)
                raise
            _publish(work, final, kind, identifier, identity, time.time() - started)


def _publish(work: Work, final: Path, kind: str, identifier: str, identity: Mapping[str, Any], seconds: float) -> None:
    for name in [*work.scratch, "running.json"]:
        path = work.folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    files = {
        path.relative_to(work.folder).as_posix(): {"sha256": file_sha256(path), "bytes": path.stat().st_size}
        for path in sorted(work.folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    made = {
        "utc": _utc(time.time()),
        "seconds": round(seconds, 3),
        "commit": git_commit(),
        "command": command_line(),
        "versions": versions(),
    }
    manifest = {"schema": 1, "kind": kind, "id": identifier, "identity": dict(identity), "files": files}
    write_json(work.folder / MANIFEST, manifest | {"summary": work.summary, "made": made})
    if final.exists():  # made again, or without a manifest and so garbage by definition
        shutil.rmtree(final)
    work.folder.rename(final)


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
        "time": _utc(time.time()),
    }


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


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
