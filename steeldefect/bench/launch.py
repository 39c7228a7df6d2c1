"""Runs a command and leaves `code seconds maxrss` in a file: python launch.py FILE COMMAND ...

A process of its own, that imports nothing of ours: on Linux a child's peak memory counts from that of the process which
started it, and a benchmark is a large one.
"""

import resource
import subprocess
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    started = time.perf_counter()
    code = subprocess.run(sys.argv[2:]).returncode
    seconds = time.perf_counter() - started
    Path(sys.argv[1]).write_text(f"{code} {seconds} {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss}")
