"""A process of its own that makes an artifact until it is let go, for tests of those that meet it there."""

import contextlib
import multiprocessing
import os
import time
from collections.abc import Iterator
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from steeldefect.runs.store import Store

SPAWN = multiprocessing.get_context("spawn")
PATIENCE = 300.0  # seconds, for a starved machine


@contextlib.contextmanager
def holder(root: Path, identity: dict[str, Any], finish: bool = True) -> Iterator[tuple[SpawnProcess, Event]]:
    """The process, once it holds the cell, and the event that lets it go: it finishes the cell, or dies.

    At the end of the block it is killed.
    """
    ready, release = SPAWN.Event(), SPAWN.Event()
    process = SPAWN.Process(target=_hold, args=(root, identity, finish, ready, release), daemon=True)
    process.start()
    try:
        deadline = time.monotonic() + PATIENCE
        while not ready.wait(0.1):
            assert process.is_alive() and time.monotonic() < deadline
        yield process, release
    finally:
        process.kill()
        process.join()


def _hold(root: Path, identity: dict[str, Any], finish: bool, ready: Event, release: Event) -> None:
    with Store(root).write("cells", identity):
        ready.set()
        release.wait(PATIENCE)
        if not finish:
            os._exit(9)
