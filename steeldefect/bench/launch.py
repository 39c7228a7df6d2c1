"""Runs a command and leaves `code seconds maxrss` in a file: python launch.py FILE COMMAND ...

A process of its own, that imports nothing of ours: on Linux a child's peak memory counts from that of the process which
started it, and a benchmark is a large one. A benchmark that is killed takes it and the command with it.
"""

import ctypes
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path


def die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


if __name__ == "__main__":
    die_with_parent()
    started = time.perf_counter()
    code = subprocess.run(sys.argv[2:], preexec_fn=die_with_parent).returncode
    seconds = time.perf_counter() - started
    Path(sys.argv[1]).write_text(f"{code} {seconds} {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss}")
