"""What a benchmark leaves: summary.csv, README.md and the figure of growth, from the parts that were measured."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from steeldefect.bench.growth import growth_figure
from steeldefect.bench.timing import Row
from steeldefect.report.provenance import write_kept
from steeldefect.report.tables import to_csv
from steeldefect.runs.errors import require
from steeldefect.runs.store import read_json

# in the order in which they run and are printed, with what each compares
PARTS = {
    "roof": "The machine's roof: best of the tries, convolutions forward and backward. There is no other side.",
    "adversarial": "A GAN step: ours / the loop of PyTorch's DCGAN tutorial on the same networks, in a process of its own. "
    "`_roof`: the time that the step's FLOPs take at the roof beside ours, ratio: the share of the roof.",
    "classifier": "A classifier step from image files to updated weights, reading and decoding shared out: ours / "
    "ImageFolder, DataLoader (2 workers) and a plain Lightning module, in a process of its own.",
    "accuracy": "Test accuracy after equal updates on the same images, a line a replicate: ours, as fast as it is, beside the "
    "plain Lightning module in float32 (its own resize and order); `_float32`: ours in bf16 beside ours in float32.",
    "profile": "Where the time of a step goes: the share of each kind of operator, as torch's profiler sees it.",
    "overhead": "A step inside Trainer and callbacks / the bare loop of the same step; ratio 0.95: 5 % overhead.",
    "verbs": "Verbs in processes of their own, from the command to its end; `_peak`: resident memory at most.",
    "growth": "Seconds of a bare step as one axis grows, and of a sweep by its cells.",
    "side_by_side": "Two cells at a time, one thread each / one after the other, two threads each.",
}


def part_file(output: Path, part: str) -> Path:
    return output / "parts" / f"{part}.json"


def write_results(output: Path) -> list[Row]:
    """Everything under `output` anew from its parts; what is written in the README by hand stays."""
    found = {part: read_json(part_file(output, part)) for part in PARTS if part_file(output, part).is_file()}
    require(bool(found), f"output={output}: no part has been measured; give parts=[{','.join(PARTS)}]")
    by_part = {part: [Row(**row) for row in kept["rows"]] for part, kept in found.items()}
    rows = [row for part in by_part.values() for row in part]
    (output / "summary.csv").write_text(to_csv([field.name for field in fields(Row)], map(_shown, rows)))
    lines = ["# Benchmark\n", "ratio: how many times ours is faster, the median over pairs taken in turns.\n"]
    for part, own in by_part.items():
        lines += [f"## {part}\n", f"{PARTS[part]}\n", _table(own), _made(found[part])]
    (output / "figures").mkdir(exist_ok=True)
    if growth_figure(rows, output / "figures" / "growth"):
        lines.append("![Seconds by batch, pixels, width and cells](figures/growth.svg)\n")
    write_kept(lines, output / "README.md")
    return rows


def _shown(row: Row) -> dict[str, Any]:
    """Four digits; what is not there is left empty."""
    return {
        key: "" if value is None else f"{value:.4g}" if isinstance(value, float) else value
        for key, value in asdict(row).items()
    }


def _table(rows: Sequence[Row]) -> str:
    head = [field.name for field in fields(Row)]
    lines = [head, ["---"] * len(head), *([str(value) for value in _shown(row).values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _made(kept: Mapping[str, Any]) -> str:
    torch = kept["versions"].get("torch", "unknown")
    return (
        f"Made by `{kept['command']}` at commit {kept['commit']}; {kept['machine']}, "
        f"{kept['device']}, {kept['threads']} threads, torch {torch}.\n"
    )
