"""Verbs as a user starts them, each in a process of its own: seconds from the command to its end, peak memory."""

import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from steeldefect.bench.timing import Row, alternating
from steeldefect.report.collect import Collection, collect, write_committed
from steeldefect.runs.errors import UserError, require

LAUNCH = Path(__file__).with_name("launch.py")
KIB = 1024 if sys.platform == "darwin" else 1  # ru_maxrss is in KiB on Linux, in bytes on macOS


def run_verb(command: Sequence[str], log: Path, threads: int | None = None) -> tuple[float, float]:
    """Seconds and peak MiB of `python experiments/<command>`; UserError with the end of its log where it fails."""
    environment = os.environ | {"WANDB_MODE": "disabled"}
    if threads is not None:
        environment |= {"OMP_NUM_THREADS": str(threads)}
    log.parent.mkdir(parents=True, exist_ok=True)
    told, script = log.with_suffix(".usage"), _script(command)
    told.unlink(missing_ok=True)
    with log.open("wb") as file:
        launcher = [sys.executable, "-S", "-E", str(LAUNCH), str(told)]
        subprocess.run([*launcher, sys.executable, *script], stdout=file, stderr=file, env=environment, check=True)
    code, seconds, peak = told.read_text().split()
    if code != "0":
        end = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
        raise UserError(f"python {' '.join(script)}: exit code {code}\n{end}")
    return float(seconds), int(peak) / KIB / 1024


def _script(command: Sequence[str]) -> list[str]:
    verb, *overrides = command
    return [f"experiments/{verb}.py", *overrides]


def measured(
    name: str, command: Sequence[str], work: Path, times: int, before: Callable[[], None] | None = None
) -> list[Row]:
    """Medians over `times` runs; `before` takes away what the run before has left."""
    taken = []
    for _ in range(times):
        if before is not None:
            before()
        taken.append(run_verb(command, work / "logs" / f"{name}.txt"))
    seconds, peak = (statistics.median(column) for column in zip(*taken, strict=True))
    return [Row(name, seconds, None, "s", None), Row(f"{name}_peak", peak, None, "MiB", None)]


def verb_rows(overrides: Sequence[str], options: Mapping[str, Any], work: Path) -> list[Row]:
    """`--help`, a bank, the evaluation of one, the audit, the report of many records, a finished sweep once more.

    overrides: of the data set and the trainer, as on the command line. What a verb stands on is made before, unmeasured.
    """
    artifacts, times = work / "artifacts", options["pairs"]
    given = [*overrides, "logger=csv", f"artifacts={artifacts}"]
    rows = measured("help", ["train_gan", "--help"], work, times)

    def without(kind: str) -> Callable[[], None]:
        return lambda: shutil.rmtree(artifacts / kind, ignore_errors=True)

    bank = [*given, f"scale={options['bank']['scale']}", "gan.updates=1", f"bank.count={options['bank']['count']}"]
    run_verb(["train_gan", *bank], work / "logs" / "train_gan.txt")
    rows += measured("bank", ["synthesize", *bank], work, times, without("banks"))
    # one update on the originals: what is left of the verb is reading, resizing and judging the test part
    cell = [*bank, "mix=org100", "phases=retrain_only", "phases.retrain.updates=1"]
    rows += measured("evaluation", ["train_classifier", *cell], work, times, without("cells"))
    rows += measured("audit", ["audit", *given], work, times, without("scenes"))

    records = work / "records"
    write_copies(Path(options["records"]["source"]), options["records"]["count"], records)
    report = [f"source={records}", f"output={work / 'report'}", f"artifacts={artifacts}", "figures=false"]
    rows += measured("report", ["report", *report], work, times)

    sweep = sweep_command(given, options["sweep"], options["sweep"]["cells"])
    run_verb(sweep, work / "logs" / "sweep.txt")
    return rows + measured("sweep_again", sweep, work, times)


def sweep_command(given: Sequence[str], sweep: Mapping[str, Any], cells: int) -> list[str]:
    """The smallest cells that there are, one a replicate."""
    replicates = ",".join(map(str, range(cells)))
    return ["train_classifier", "-m", f"replicate={replicates}", *given, *sweep["overrides"]]


def write_copies(source: Path, count: int, target: Path) -> None:
    """`count` records made of those in `source`, each copy a further replicate; answers to the test images too."""
    found, copies = collect(source), Collection()
    step = 1 + max(record["replicate"] for record in found.records)
    for k in range(count):
        turn, place = divmod(k, len(found.records))
        record = found.records[place]
        identifier = f"{k:012x}"
        copies.records.append({**record, "id": identifier, "replicate": record["replicate"] + turn * step})
        if record["id"] in found.tested:
            copies.tested[identifier] = found.tested[record["id"]]
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    write_committed(copies, target)


def side_by_side(overrides: Sequence[str], options: Mapping[str, Any], work: Path) -> list[Row]:
    """Two cells of one thread at a time against one of two threads after the other; each cell a fresh process."""
    require(
        len(os.sched_getaffinity(0)) >= 2, "parts: side_by_side needs two cores, this process may use one (taskset)"
    )
    artifacts, sweep = work / "artifacts", options["side_by_side"]
    given = [*overrides, "logger=csv", f"artifacts={artifacts}"]
    # the split and the decoded images are there before either side begins
    run_verb(sweep_command(given, sweep, 2), work / "logs" / "first.txt")

    def side(jobs: int, threads: int) -> Callable[[], float]:
        flags = ["hydra/launcher=local", f"hydra.launcher.n_jobs={jobs}", f"hydra.launcher.threads={threads}"]
        command = sweep_command([*given, *flags], sweep, 2)

        def run() -> float:
            shutil.rmtree(artifacts / "cells")
            return run_verb(command, work / "logs" / f"jobs{jobs}.txt")[0]

        return run

    return [alternating("two_cells_side_by_side", side(2, 1), side(1, 2), options["pairs"])]
