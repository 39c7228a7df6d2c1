"""What would go wrong, before it does: python experiments/doctor.py dataset=neu_cls scale=cpu"""

import fcntl
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

try:
    from omegaconf import DictConfig

    from steeldefect.runs.verb import verb
except ImportError as error:
    sys.exit(f"FAIL  installation: {error}; make setup")

ROOT = Path(__file__).resolve().parents[1]
GIB = 2**30
CHECKPOINTS = 2 * GIB  # what the largest classifier needs while it trains: VGG-16 with momentum, old and new
Finding = tuple[str, str]  # ok | warn | FAIL, and the text


def installation() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    needed = [Requirement(line) for line in metadata.requires("steeldefect") or []]
    for one in needed:
        if one.marker is not None and not one.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(one.name)
        except metadata.PackageNotFoundError:
            yield "FAIL", f"{one.name} is not installed; make setup"
            continue
        if not one.specifier.contains(version, prereleases=True):
            yield "FAIL", f"{one.name} {version}: {one} is needed; make setup"
    other = [f"{name} {have} (tested: {tested})" for name, have, tested in _drifted(ROOT / "constraints.txt")]
    if other:
        listed = ", ".join(other[:5]) + (" ..." if len(other) > 5 else "")
        yield "warn", f"{len(other)} packages are not of the tested version, last digits may differ: {listed}"
    torch = importlib.util.find_spec("torch")
    if sys.dont_write_bytecode and torch and not Path(importlib.util.cache_from_source(str(torch.origin))).exists():
        yield "warn", "PYTHONDONTWRITEBYTECODE is set: each start compiles torch anew, some 10 s; unset it"
    yield "ok", f"python {sys.version.split()[0]}, {len(needed)} requirements looked at"


def _drifted(constraints: Path) -> Iterator[tuple[str, str, str]]:
    lines = constraints.read_text().split() if constraints.exists() else []
    for name, _, tested in (line.partition("==") for line in lines):
        try:
            have = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        if have != tested:
            yield name, have, tested


def code() -> Iterator[Finding]:
    from steeldefect.runs.environment import git_commit

    commit = git_commit()
    if commit == "unknown":
        yield "warn", "no git repository: records will not say which code made them"
    elif commit.endswith("+"):
        yield "warn", f"commit {commit}: the work tree differs from it, and records will say so"
    else:
        yield "ok", f"commit {commit}"


def place(artifacts: Path) -> Iterator[Finding]:
    """Can be written, and locked: over some network file systems a lock is not to be had."""
    artifacts.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=artifacts) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    yield "ok", f"{artifacts.absolute()} can be written and locked"


def data(cfg: DictConfig) -> Iterator[Finding]:
    from steeldefect.runs.prepare import prepare

    context = prepare(cfg)
    images = context.images
    yield "ok", f"{images.name}: {len(images.names)} images, {len(images.classes)} classes"
    if context.table is None:
        yield "warn", "the scenes are not known, so a split may leak: make audit finds them"
    else:
        share = context.overlapping_share or 0.0
        text = f"scenes from {context.table.source}; {share:.0%} of the test images show a training image's surface"
        yield ("ok" if share == 0 else "warn"), text
    yield from _space(context)


def _space(context: Any) -> Iterator[Finding]:
    settings, count = context.settings, context.bank_identity["count"]
    drawn, trained = settings["gan"]["image_size"] ** 2, settings["classifier"]["image_size"] ** 2
    needed, free = count * drawn + CHECKPOINTS, shutil.disk_usage(settings["artifacts"]).free
    text = f"{free / GIB:.1f} GiB free, a bank of {count} images and checkpoints take up to {needed / GIB:.1f}"
    yield ("ok" if free > needed else "FAIL"), text
    # a mix lies in memory whole, at the classifier's size
    needed, free = (count + len(context.images.names)) * trained, _memory()
    text = f"{free / GIB:.1f} GiB of memory available, the largest mix takes {needed / GIB:.1f}"
    yield ("ok" if free > 2 * needed else "warn"), text


def _memory() -> int:
    words = Path("/proc/meminfo").read_text().split()
    return int(words[words.index("MemAvailable:") + 1]) * 1024


def device(cfg: DictConfig) -> Iterator[Finding]:
    from steeldefect.runs.device import accelerator_kind, available_threads, resolve_precision

    kind = accelerator_kind(cfg.trainer.accelerator)
    precision = [
        resolve_precision(cfg.precision, cfg.trainer.accelerator, on_cpu)
        for on_cpu in ("bf16-mixed", cfg.classifier.cpu_precision)
    ]
    threads = available_threads(cfg.trainer.threads)
    yield "ok", f"{kind}, {threads} threads, precision {precision[0]} (gan) and {precision[1]} (classifier)"
    if not cfg.trainer.deterministic:
        yield "warn", "trainer.deterministic=false: a run given again, or resumed, may end in other digits"
    if kind == "cpu" and cfg.scale.name == "paper":
        yield "warn", "scale=paper is a GPU's work: days to weeks on a CPU; scale=cpu"


def tracking(cfg: DictConfig) -> Iterator[Finding]:
    if not cfg.logger.wandb:
        yield "ok", "W&B is left out; curves go to CSV files"
        return
    mode = os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")
    if mode == "online" and not os.environ.get("WANDB_API_KEY"):
        yield "FAIL", "WANDB_MODE=online without WANDB_API_KEY: set the key, or WANDB_MODE=offline"
    yield "ok", f"W&B {mode}" + ("" if mode == "online" else f": wandb sync {cfg.artifacts}/wandb/offline-run-* later")


@verb("doctor")
def main(cfg: DictConfig) -> None:
    from steeldefect.runs.errors import UserError, explained

    looks: dict[str, Callable[[], Iterator[Finding]]] = {
        "installation": installation,
        "code": code,
        "artifacts": lambda: place(Path(cfg.artifacts)),
        "data": lambda: data(cfg),
        "device": lambda: device(cfg),
        "tracking": lambda: tracking(cfg),
    }
    worst = "ok"
    for name, look in looks.items():
        try:
            found = list(look())
        except (UserError, OSError) as error:
            found = [("FAIL", str(explained(error, cfg.artifacts) or error))]
        for state, text in found:
            print(f"{state:4}  {name}: {text}")
            worst = state if state == "FAIL" else worst
    if worst == "FAIL":
        sys.exit(1)


if __name__ == "__main__":
    main()
