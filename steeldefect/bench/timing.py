"""How figures are taken: two sides in one process, in turns, the median over pairs."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

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
