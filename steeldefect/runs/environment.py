"""What made a result: commit, versions, machine. Recorded with every artifact, never hashed."""

import functools
import os
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from steeldefect.runs import ranks

PACKAGES = ("torch", "torchvision", "lightning", "numpy", "scikit-learn", "pillow", "hydra-core")
COMMAND = "STEELDEFECT_COMMAND"  # the command of the sweep, for the cells that a launcher starts


@functools.cache
def git_commit() -> str:
    """The commit of the code, with `+` where the work tree differs from it; `unknown` outside a repository."""
    here = Path(__file__).parent
    try:
        run = functools.partial(subprocess.run, cwd=here, capture_output=True, text=True, timeout=10, check=True)
        commit = run(["git", "rev-parse", "--short=12", "HEAD"]).stdout.strip()
        changed = run(["git", "status", "--porcelain", "--untracked-files=no"]).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return f"{commit}+" if changed else commit


@functools.cache
def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def command_line() -> str:
    """The command as the user could type it again: no machine path before the script's own folder."""
    if os.environ.get(COMMAND):
        return os.environ[COMMAND]
    script = Path(sys.argv[0])
    name = f"{script.parent.name}/{script.name}" if script.parent.name == "experiments" else script.name
    return shlex.join(["python", name, *sys.argv[1:]])


def machine() -> str:
    processes = ranks.here().size
    several = f", {processes} processes" if processes > 1 else ""
    return f"{_processor()}, {len(os.sched_getaffinity(0))} cores{several}"


@functools.cache
def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.machine()
