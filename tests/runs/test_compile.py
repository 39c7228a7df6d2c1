"""Networks compiled by torch train to the same weights, the noise of a-dropout included."""

from pathlib import Path

import pytest
import torch

from steeldefect.gan.training import train_gan
from steeldefect.runs.errors import UserError
from steeldefect.runs.prepare import prepare
from tests.conftest import Compose
from tests.stages import make


@pytest.mark.slow
@pytest.mark.parametrize(("verb", "made"), [("train_classifier", "cells/*/weights.pt"), ("train_gan", "gans/*/*.pt")])
def test_compiled_networks_train_to_the_same_weights(tmp_path: Path, verb: str, made: str) -> None:
    weights = {}
    for mode in ("null", "default"):
        make(verb, tmp_path / mode, "mix=org100", "keep_weights=true", "gan.updates=2", f"trainer.compile={mode}")
        paths = sorted((tmp_path / mode).glob(made))
        weights[mode] = {path.name: torch.load(path, weights_only=True) for path in paths}
    assert weights["null"]
    differences = [
        (weights["default"][name][key].double() - value.double()).abs().flatten()
        for name, ours in weights["null"].items()
        for key, value in ours.items()
    ]
    # Adam's first steps are of one length however small a gradient is, so where it is nearly 0 a last digit decides
    assert (torch.cat(differences) > 1e-5).double().mean() < 0.01


def test_a_gan_with_a_gradient_penalty_is_refused(tiny: Compose) -> None:
    with pytest.raises(UserError, match=r"trainer\.compile: .*r1_gamma"):
        train_gan(prepare(tiny("train_gan", "trainer.compile=default", "gan.discriminator.r1_gamma=1")))
