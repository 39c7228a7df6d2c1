"""How figures are taken: two sides in one process, in turns, the median over pairs."""

import multiprocessing
import statistics
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

import torch

from steeldefect.runs.errors import require

Side = Callable[[], float]  # does its work once and returns the seconds of one unit (a step, a pass)


@dataclass(frozen=True)
class Row:
    """A line of summary.csv. ratio: how many times ours is faster, the median over pairs; None where nothing stands beside."""

    name: str
    ours: float
    other: float | None
    unit: str
    ratio: float | None


def alternating(name: str, ours: Side, other: Side, pairs: int, unit: str = "s") -> Row:
    """Both sides in turns, the one that begins changing from pair to pair; the first go of each is not counted."""
    require(pairs >= 1, f"bench.pairs={pairs}: must be at least 1")
    ours(), other()
    taken: list[tuple[float, float]] = []
    for pair in range(pairs):
        if pair % 2:
            second, first = other(), ours()
        else:
            first, second = ours(), other()
        taken.append((first, second))
    ratio = statistics.median(second / first for first, second in taken)
    return Row(name, statistics.median(a for a, _ in taken), statistics.median(b for _, b in taken), unit, ratio)


def timed(call: Callable[[], object], times: int, device: torch.device) -> Side:
    """Seconds of one of `times` calls in a row."""

    def side() -> float:
        started = now(device)
        for _ in range(times):
            call()
        return (now(device) - started) / times

    return side


def now(device: torch.device) -> float:
    """Seconds, after all that the device was given has been done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@contextmanager
def apart(make: Callable[..., Side], *args: object) -> Iterator[Side]:
    """The side `make(*args)` in a fresh process that waits while ours runs: what our runs set for a process is not there.

    It has as many threads as this one; what goes wrong there is raised here.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, torch.get_num_threads(), make, args))
    process.start()
    theirs.close()

    def side() -> float:
        ours.send(None)
        seconds, problem = ours.recv()
        if problem:
            raise RuntimeError(f"in the other process: {problem}")
        return float(seconds)

    try:
        yield side
    finally:
        ours.close()
        process.join()


def _serve(pipe: Connection, threads: int, make: Callable[..., Side], args: tuple[object, ...]) -> None:
    torch.set_num_threads(threads)
    made: Side | None = None
    while True:
        try:
            pipe.recv()
        except EOFError:
            return
        try:
            made = made or make(*args)
            pipe.send((made(), ""))
        except Exception:
            pipe.send((0.0, traceback.format_exc()))
