"""What leaves the machine, without the machine's own folders."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def without_paths(part: Any) -> Any:
    """The same content, without the machine's own folders: absolute paths become their last part."""
    if isinstance(part, Mapping):
        return {key: without_path(value) if key == "command" else without_paths(value) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return [without_paths(value) for value in part]
    if isinstance(part, str) and re.match(r"(/|~|\.\.?/|[A-Za-z]:\\)", part):
        return Path(part).name
    return part


def without_path(command: str) -> str:
    """`dataset.root=/home/me/neu` becomes `dataset.root=neu`."""
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    return shlex.join(re.sub(r"(?<![\w.])(~|\.\.)?/\S*/", "", word) for word in words)
