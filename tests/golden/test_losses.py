"""The first losses of each module in float32, kept as numbers: a change that alters them must say so.

`STEELDEFECT_UPDATE_GOLDEN=1 python -m pytest tests/golden` writes them anew. Processors round differently, hence 1e-4, and
batch normalisation over eight images makes much of it once there was an update, hence `LATER`.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback

from steeldefect.classify.module import ClassifierModule
from steeldefect.data.datamodule import MixDataModule
from steeldefect.gan.module import AdversarialModule
from steeldefect.runs.settings import plain
from steeldefect.runs.training import fit, seed_everything
from tests.conftest import Compose

FILE = Path(__file__).parent / "losses.json"
STEPS = 3


def data(size: int) -> MixDataModule:
    """24 images of three classes that differ in the place of a bright square; one batch of 8 a step."""
    labels = torch.arange(24) % 3
    images = torch.full((24, size, size), 90, dtype=torch.uint8)
    for i, label in enumerate(labels):
        images[i, 2 + i % 5 : 6 + i % 5, 2 + 4 * int(label) : 5 + 4 * int(label)] = 200
    return MixDataModule((images.numpy(), labels.numpy()), None, size, 8, 0)


class Losses(Callback):
    def __init__(self) -> None:
        self.seen: list[list[float]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if isinstance(pl_module, AdversarialModule):
            sums = pl_module.sums[:2].tolist()
            before = self.total if self.seen else [0.0, 0.0]
            self.seen.append([a - b for a, b in zip(sums, before, strict=True)])
            self.total = sums
        else:
            self.seen.append([float(outputs["loss"])])


GANS = ["edcgan", "dcgan", "edcgan_plus", "projected"]
# of losses behind the first: several times what AVX2, AVX512 and neither differ by
LATER = {"mobilenet_v2": 0.5, "resnet18": 0.2, "projected": 5e-3, "vgg16_bn": 1e-2, "resnet19": 1e-3}
CASES = [*GANS, "edcgan-per_class", "mobilenet_v2", "vgg16_bn", "resnet19", "resnet18", "small_cnn"]


@pytest.mark.parametrize("case", CASES)
def test_first_losses(composed: Compose, tmp_path: Path, case: str) -> None:
    seed_everything(0)
    module: AdversarialModule | ClassifierModule
    name, _, conditioning = case.partition("-")
    if name in GANS:
        overrides = [f"gan={name}", "scale=smoke", f"gan.conditioning={conditioning or 'conditional'}"]
        overrides += ["gan.discriminator.feature_size=32"] if name == "projected" else []
        settings = plain(composed("train_gan", "trainer=cpu", *overrides))
        module, limits = AdversarialModule(settings["gan"], 3), {"max_steps": 2 * STEPS, "max_epochs": -1}
    else:
        settings = plain(composed("train_classifier", "trainer=cpu", f"classifier={name}", "scale=smoke"))
        module = ClassifierModule(settings["classifier"], settings["optimizer"], 3)
        limits = {"max_steps": STEPS, "max_epochs": -1}
    losses = Losses()
    size = 16 if name in GANS else 32
    fit(module, data(size), settings, tmp_path, "32-true", 1, case, [], limits, [losses])
    golden = json.loads(FILE.read_text()) if FILE.exists() else {}
    if os.environ.get("STEELDEFECT_UPDATE_GOLDEN") == "1":
        FILE.write_text(json.dumps(golden | {case: losses.seen}, indent=1, sort_keys=True) + "\n")
        return
    assert len(losses.seen) == STEPS
    for step, (seen, expected) in enumerate(zip(losses.seen, golden[case], strict=True)):
        assert seen == pytest.approx(expected, rel=LATER.get(case, 1e-4) if step else 1e-4)
