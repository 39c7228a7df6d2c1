"""Kill each stage again and again, let it go on, and compare with an undisturbed run: python experiments/faults.py"""

import contextlib
import csv
import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from steeldefect.runs.verb import verb

log = logging.getLogger(__name__)
HERE = Path(__file__).resolve().parent
TRIES = 5  # for a kill that came too late, when the stage was over
README = """\
# Kills

Each stage of the pipeline was started, sent a signal at a moment drawn between its first byte and its manifest, and
given again until it was done. *lost*: finished artifacts that were gone or changed after a kill. *wrong*: runs whose
result was not, file by file, that of a run which nothing had disturbed (a record but for its times).

    {command}

Commit {commit}, {machine}; {minutes:.0f} minutes.

{table}
"""


@dataclass(frozen=True)
class Stage:
    """kind: the folder of the artifact, empty for the report; after: the stages that it stands on."""

    name: str
    verb: str
    kind: str
    after: tuple[str, ...]


STAGES = {
    stage.name: stage
    for stage in (
        Stage("gan", "train_gan", "gans", ()),
        Stage("bank", "synthesize", "banks", ("gan",)),
        Stage("initial", "train_classifier", "initials", ("gan", "bank")),
        Stage("cell", "train_classifier", "cells", ("gan", "bank", "initial")),
        Stage("report", "report", "", ("gan", "bank", "initial", "cell")),
        Stage("audit", "audit", "scenes", ()),
    )
}


class Bench:
    """root/reference: every stage, undisturbed; root/trial: a copy of what a stage stands on, for each kill anew."""

    def __init__(self, root: Path, faults: dict[str, Any]) -> None:
        self.reference, self.trial = root / "reference", root / "trial"
        self.overrides: list[str] = faults["overrides"]
        self.rng = np.random.default_rng(faults["seed"])
        self.seconds: dict[str, float] = {}

    def start(self, stage: Stage, artifacts: Path) -> "subprocess.Popen[bytes]":
        own = [option for option in self.overrides if stage.verb == "audit" or not option.startswith("audit.")]
        more = [f"output={artifacts / 'report'}", "study=table3"] if stage.name == "report" else []
        command = [sys.executable, str(HERE / f"{stage.verb}.py"), *own, *more, f"artifacts={artifacts}"]
        with (artifacts.parent / "log.txt").open("ab") as file:
            return subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)

    def make_reference(self, stages: list[Stage]) -> None:
        """All that is needed; how long each stage takes from its first byte to its end."""
        needed = [name for name in STAGES if any(name == s.name or name in s.after for s in stages)]
        self.reference.mkdir(parents=True, exist_ok=True)
        for stage in (STAGES[name] for name in needed):
            # the command that makes a phase `initial` goes on to the cell
            shutil.rmtree(self.reference / (stage.kind or "report"), ignore_errors=True)
            process = self.start(stage, self.reference)
            begun = _wait(lambda stage=stage: _begun(stage, self.reference), process)
            _wait(lambda stage=stage: _done(stage, self.reference), process)
            self.seconds[stage.name] = time.monotonic() - begun
            if process.wait() != 0:
                raise RuntimeError(f"{stage.verb} without a fault: exit code {process.returncode}, see log.txt")
            log.info("%s: %.1f s undisturbed", stage.name, self.seconds[stage.name])

    def copy(self, stage: Stage) -> None:
        """What the stage stands on, and nothing of its own."""
        shutil.rmtree(self.trial, ignore_errors=True)
        self.trial.mkdir()
        for kind in ("cache", "splits", *(STAGES[name].kind for name in stage.after)):
            if (self.reference / kind).exists():
                shutil.copytree(self.reference / kind, self.trial / kind)

    def kill(self, stage: Stage, number: int, share: float) -> bool:
        """One signal, `share` of the way through; False where the stage was over by then."""
        process = self.start(stage, self.trial)
        _wait(lambda: _begun(stage, self.trial), process)
        time.sleep(share * self.seconds[stage.name])
        hit = process.poll() is None and not _done(stage, self.trial)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        process.wait()
        return hit

    def lost(self, stage: Stage) -> int:
        """Finished artifacts below the stage that are not as they were, and folders taken for whole that are not."""
        kinds = [STAGES[name].kind for name in stage.after]
        changed = sum(result(self.trial, kind) != result(self.reference, kind) for kind in kinds)
        half = stage.kind != "" and bool(_finished(self.trial, stage.kind)) and self.wrong(stage)
        return changed + int(half)

    def wrong(self, stage: Stage) -> bool:
        return result(self.trial, stage.kind) != result(self.reference, stage.kind)


def result(artifacts: Path, kind: str) -> dict[str, str]:
    """SHA-256 by file of the artifacts of a kind, read from the disk; of the report's tables where kind is empty."""
    if not kind:
        files = [path for path in (artifacts / "report").rglob("*") if path.suffix in (".csv", ".jsonl")]
        return {path.name: _hash(path) for path in files}
    found = {}
    for folder in _finished(artifacts, kind):
        for name in json.loads((folder / "manifest.json").read_text())["files"]:
            found[f"{folder.name}/{name}"] = _hash(folder / name)
    return found


def _hash(path: Path) -> str:
    if not path.is_file():
        return "missing"
    content = path.read_bytes()
    if path.name in ("record.json", "records.jsonl"):
        records = [json.loads(content)] if path.suffix == ".json" else [json.loads(x) for x in content.splitlines()]
        timeless = [
            {k: v for k, v in r.items() if k not in ("cost", "environment", "made", "upstream")} for r in records
        ]
        content = json.dumps(timeless).encode()
    return hashlib.sha256(content).hexdigest()


def _finished(artifacts: Path, kind: str) -> list[Path]:
    return sorted(path.parent for path in (artifacts / kind).glob("[!.]*/manifest.json"))


def _begun(stage: Stage, artifacts: Path) -> bool:
    if not stage.kind:
        return any((artifacts / "report").glob("*"))
    return any((artifacts / stage.kind).glob(".*.partial")) or _done(stage, artifacts)


def _done(stage: Stage, artifacts: Path) -> bool:
    """A report has no manifest: it is done when its process is."""
    return bool(stage.kind and _finished(artifacts, stage.kind))


def _wait(happened: Any, process: "subprocess.Popen[bytes]") -> float:
    while not happened() and process.poll() is None:
        time.sleep(0.005)
    return time.monotonic()


def trials(bench: Bench, stage: Stage, kind: str, kills: int) -> Iterator[tuple[int, bool]]:
    """(lost, wrong) of each kill: the moments are uniform, one in each of `kills` equal parts of the stage."""
    number = signal.Signals[kind]
    for part in range(kills):
        for _ in range(TRIES):
            bench.copy(stage)
            if bench.kill(stage, number, (part + bench.rng.random()) / kills):
                break
        else:
            log.warning("%s: no kill in part %d of %d came in time; not counted", stage.name, part + 1, kills)
            continue
        lost = bench.lost(stage)
        code = bench.start(stage, bench.trial).wait()
        yield lost, code != 0 or bench.wrong(stage)


@verb("faults")
def main(cfg: DictConfig) -> None:
    from steeldefect.report.provenance import write_kept
    from steeldefect.runs.environment import command_line, git_commit, machine
    from steeldefect.runs.portable import without_path
    from steeldefect.runs.settings import plain

    settings, started = plain(cfg), time.monotonic()
    faults, output = settings["faults"], Path(settings["output"])
    bench = Bench(Path(settings["artifacts"]).absolute() / "kills", faults)
    stages = [STAGES[name] for name in faults["stages"]]
    bench.make_reference(stages)
    rows = [("stage", "kind", "kills", "lost", "wrong")]
    for stage in stages:
        for kind in faults["kinds"]:
            found = list(trials(bench, stage, kind, faults["kills"]))
            counts = (len(found), sum(lost for lost, _ in found), sum(wrong for _, wrong in found))
            rows.append((stage.name, kind, *map(str, counts)))
            log.info("%s %s: %d kills, %d lost, %d wrong", stage.name, kind, *counts)
    output.mkdir(parents=True, exist_ok=True)
    with (output / "summary.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    table = "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], ("---",) * 5, *rows[1:]])
    minutes = (time.monotonic() - started) / 60
    command = without_path(command_line())
    text = README.format(command=command, commit=git_commit(), machine=machine(), minutes=minutes, table=table)
    write_kept([text], output / "README.md")
    log.info("faults: %s", output / "summary.csv")
    if any(row[3:] != ("0", "0") for row in rows[1:]):
        sys.exit(1)


if __name__ == "__main__":
    main()
