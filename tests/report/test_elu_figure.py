import subprocess
import sys
from pathlib import Path

from steeldefect.report.elu_figure import elu_figure
from tests.conftest import ROOT

ACTIVATIONS = [
    {"stack": stack, "seed": seed, "layer": layer, "place": place, "mean": 0.1 * seed, "std": 0.5**layer}
    for stack in ("one", "two")
    for seed in (0, 1)
    for layer in (1, 2, 3)
    for place in ("pre_activation", "activation")
]
STEPS = [{"step": name, "repeat": i, "seconds": 0.01 * (i + 1)} for name in ("with", "without") for i in range(3)]


def test_the_figure_is_drawn_from_rows_and_is_the_same_each_time(tmp_path: Path) -> None:
    elu_figure(ACTIVATIONS, STEPS, tmp_path / "a")
    elu_figure(ACTIVATIONS, STEPS, tmp_path / "b")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    elu_figure([row | {"std": 1.0} for row in ACTIVATIONS], STEPS, tmp_path / "c")
    assert (tmp_path / "a.svg").read_bytes() != (tmp_path / "c.svg").read_bytes()
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_it_needs_no_torch() -> None:
    script = "import sys, steeldefect.report.elu_figure; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stdout.strip() == "False", done.stderr
