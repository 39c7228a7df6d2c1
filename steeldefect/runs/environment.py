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


# of a CPU's flags: the widest first; two of one name may differ in them, and with them in speed and in the last digits
INSTRUCTIONS = {"avx512_bf16": "AVX512-BF16", "avx512f": "AVX512", "avx2": "AVX2"}


def machine(gpu: str | None = None) -> str:
    """`AMD EPYC, 2 cores, AVX2`; in records of before the instruction set was told, without its last part.

    `gpu`: the name of the one that computed, `device.gpu_name`.
    """
    processes = ranks.here().size
    several = f", {processes} processes" if processes > 1 else ""
    told = next((name for flag, name in INSTRUCTIONS.items() if flag in _cpu().get("flags", "").split()), None)
    cores = f"{len(os.sched_getaffinity(0))} cores{several}"
    return ", ".join([_cpu().get("model name", platform.machine()), cores, *(part for part in (told, gpu) if part)])


def alike(one: str, other: str) -> bool:
    """Whether two records may be of one kind of machine."""
    short, long = sorted((one, other), key=len)
    return long == short or long.removeprefix(f"{short}, ") in INSTRUCTIONS.values()


@functools.cache
def _cpu() -> dict[str, str]:
    """Of the first core, as the kernel tells it; empty elsewhere than on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
