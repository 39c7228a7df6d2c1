import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from steeldefect.gan.activations import STACKS, STEPS, activation_rows, step_rows, summary
from steeldefect.gan.networks import build_discriminator
from tests.conftest import ROOT, TINY, Compose


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.randn(16, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    return images, torch.arange(16) % 3


def test_the_critical_init_keeps_the_signal_and_the_normal_one_loses_it(composed: Compose, batch) -> None:
    rows = activation_rows(composed("train_gan", "gan.image_size=64").gan, 3, *batch, seeds=[0, 1])
    assert len(rows) == len(STACKS) * 2 * 4 * 2
    std = {(r["stack"], r["seed"], r["layer"]): r["std"] for r in rows if r["place"] == "pre_activation"}
    for seed in (0, 1):
        for layer in range(1, 5):
            assert 0.6 < std["ELU, critical init", seed, layer] < 1.3
        for stack in ("ELU, N(0, 0.02)", "ReLU, N(0, 0.02)"):
            falls = [std[stack, seed, layer + 1] / std[stack, seed, layer] for layer in range(1, 4)]
            assert max(falls) < 0.7
    # layer by layer, by hand: what the first convolution of that seed makes of the images
    torch.manual_seed(1)
    as_there = ["gan.discriminator.keep_probability=1.0", "gan.discriminator.elu_alpha=1.0"]
    gan = composed("train_gan", "gan.image_size=64", *as_there).gan
    first = [r for r in rows if (r["stack"], r["seed"], r["layer"]) == ("ELU, critical init", 1, 1)]
    before = build_discriminator(gan, 3).layers[0](batch[0])
    assert [r["std"] for r in first] == pytest.approx(
        [before.std().item(), torch.nn.functional.elu(before).std().item()]
    )


def test_bn_is_what_the_steps_with_and_without_it_differ_in(composed: Compose, batch) -> None:
    images, labels = batch
    gan = composed("train_gan", "gan.image_size=16").gan
    rows = step_rows(gan, 3, images[..., :16, :16], labels, repeats=2, precision="32-true")
    assert [(row["step"], row["repeat"]) for row in rows] == [(name, i) for i in range(2) for name in STEPS]
    assert all(row["seconds"] > 0 and row["images"] == 32 for row in rows)
    said = summary(activation_rows(gan, 3, images[..., :16, :16], labels, [0]), rows)
    assert len(said) == len(STACKS) + len(STEPS)
    assert sum("1.00 times the quickest" in line for line in said) >= 1


def test_the_verb_leaves_rows_and_a_figure(tmp_path: Path) -> None:
    overrides = [*TINY, f"artifacts={tmp_path / 'artifacts'}", "elu.seeds=1", "elu.repeats=1", "elu.images=6"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "experiments" / "elu.py"), *overrides, f"output={tmp_path / 'out'}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "activations.csv",
        "steps.csv",
        "elu.svg",
        "elu.png",
    }
    with (tmp_path / "out" / "steps.csv").open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == list(STEPS)
