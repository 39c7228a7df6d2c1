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


# what stands in the way of a folder or file that is to be made
_BLOCKED = (errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EISDIR)


def explained(error: BaseException, folder: Path | str | None, output: Path | str | None = None) -> UserError | None:
    """What a user can do about a fault of the machine met while writing; None for any other error.

    `folder` and `output` are the config keys `artifacts` and `output`.
    """
    what = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower() or "can't allocate" in str(error):
        return UserError(
            f"out of memory ({str(error).splitlines()[0] if str(error) else what}); lower optimizer.batch_size, "
            "gan.batch_size or the image size, or run fewer cells at a time (hydra.launcher.n_jobs)"
        )
    code = error.errno if isinstance(error, OSError) else None
    named = Path(str(error.filename)) if isinstance(error, OSError) and error.filename else None
    to_output = named is not None and output is not None and _on_the_way(named, Path(output))
    key, value = ("output", output) if to_output else ("artifacts", folder)
    if code in (errno.ENOSPC, errno.EDQUOT) or (isinstance(error, OSError | RuntimeError) and _full(folder)):
        return UserError(f"{key}={value}: the disk is full ({what}); free some space, the same command goes on")
    blocked = (
        to_output and named is not None and code in _BLOCKED and not (code == errno.ENOENT and named.parent.is_dir())
    )
    if blocked or code in (errno.EROFS, errno.EACCES, errno.EPERM):
        if named and not to_output and not (folder and _on_the_way(named, Path(folder))):
            return UserError(f"{named}: cannot be read or written ({what})")
        return UserError(f"{key}={value}: cannot be written ({what}); set {key}= to a place that can")
    if isinstance(error, FileNotFoundError) and folder and Path(str(folder)) in Path(str(error.filename)).parents:
        return UserError(f"{error.filename}: was removed while it was needed; the same command makes it again")
    return None


def _on_the_way(named: Path, place: Path) -> bool:
    """Whether `named` lies at, beside (`model.onnx.json`), below or above `place`."""
    return str(named.absolute()).startswith(str(place.absolute())) or named.absolute() in place.absolute().parents


def _full(folder: Path | str | None) -> bool:
    """Whether nothing fits there any more: some libraries do not say why they could not write."""
    try:
        return folder is not None and shutil.disk_usage(folder).free < 2**16
    except OSError:
        return False
