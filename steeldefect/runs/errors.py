"""Errors that a user can act on: they name the config key or the file, both values, and what to do."""

from collections.abc import Callable, Iterable
from difflib import get_close_matches


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
