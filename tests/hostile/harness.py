"""How hard hypothesis tries: STEELDEFECT_HOSTILE=1000 for a full run, a few for every day; never for ever."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import HealthCheck, settings

TRIES = int(os.environ.get("STEELDEFECT_HOSTILE", 25))
SECONDS = 120  # one input may take so long on a busy machine; a hang takes longer

hostile = settings(
    max_examples=TRIES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@contextmanager
def answered() -> Iterator[None]:
    """What happens inside must end within SECONDS."""

    def late(number: int, frame: object) -> None:
        raise AssertionError(f"no answer after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def or_message(task: Callable[[], object]) -> object | None:
    """The result of `task`, or None where it raised a UserError that says something; anything else is a failure."""
    from steeldefect.runs.errors import UserError

    with answered():
        try:
            return task()
        except UserError as error:
            assert len(str(error)) > 10
            return None


def tree(root: Path) -> dict[str, bytes | str | None]:
    """Everything below a folder, links not followed."""
    found: dict[str, bytes | str | None] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = str(path.readlink())
        else:
            found[name] = path.read_bytes() if path.is_file() else None
    return found
