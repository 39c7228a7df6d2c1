"""Errors that a user can act on: they name the config key or the file, both values, and what to do."""

import errno
import shutil
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path


class UserError(ValueError):
    """Something that the user can mend; verbs print its message without a traceback."""


class MissingArtifact(UserError):
    """A stage lacks what an earlier stage makes; the message holds the command that makes it."""


class Held(UserError):
    """Another process is making the artifact; the message says which."""


def require(condition: bool, message: str | Callable[[], str]) -> None:
    if not condition:
        raise UserError(message if isinstance(message, str) else message())


def nearest(name: str, choices: Iterable[str]) -> str:
    """`a, b, c` with the closest choice first, for the end of an error message."""
    names = sorted(choices)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}? choices: {', '.join(names)}" if close else f"choices: {', '.join(names)}"


def explained(error: BaseException, folder: Path | str | None) -> UserError | None:
    """What a user can do about a fault of the machine met while writing under `folder`; None for any other error."""
    what = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower() or "can't allocate" in str(error):
        return UserError(
            f"out of memory ({str(error).splitlines()[0] if str(error) else what}); lower optimizer.batch_size, "
            "gan.batch_size or the image size, or run fewer cells at a time (hydra.launcher.n_jobs)"
        )
    code = error.errno if isinstance(error, OSError) else None
    if code in (errno.ENOSPC, errno.EDQUOT) or (isinstance(error, OSError | RuntimeError) and _full(folder)):
        return UserError(f"artifacts={folder}: the disk is full ({what}); free some space, the same command goes on")
    if code in (errno.EROFS, errno.EACCES, errno.EPERM):
        return UserError(f"artifacts={folder}: cannot be written ({what}); set artifacts=DIR to a folder that can")
    if isinstance(error, FileNotFoundError) and folder and Path(str(folder)) in Path(str(error.filename)).parents:
        return UserError(f"{error.filename}: was removed while it was needed; the same command makes it again")
    return None


def _full(folder: Path | str | None) -> bool:
    """Whether nothing fits there any more: some libraries do not say why they could not write."""
    try:
        return folder is not None and shutil.disk_usage(folder).free < 2**16
    except OSError:
        return False
