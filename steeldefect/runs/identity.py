"""What a run's name is made of: canonical JSON, hashed."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

ID_LENGTH = 12


def canonical(part: Any) -> str:
    """JSON that is the same for the same content: sorted keys, no spaces, 1.0 written as 1, no NaN."""
    return json.dumps(_plain(part), sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def digest(part: Any) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of `canonical(part)`."""
    return hashlib.sha256(canonical(part).encode()).hexdigest()[:ID_LENGTH]


def derived_seed(*parts: Any) -> int:
    """A seed in [0, 2^31) that is a pure function of `parts`; 0 is as good a seed as any."""
    return int(hashlib.sha256(canonical(list(parts)).encode()).hexdigest()[:8], 16) & 0x7FFFFFFF


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(part: Any) -> Any:
    if isinstance(part, dict):
        return {str(key): _plain(value) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return [_plain(value) for value in part]
    # 1 and 1.0 mean the same in a config, so they must give the same id
    if isinstance(part, float) and math.isfinite(part) and part.is_integer():
        return int(part)
    return part
