"""No stage of a generator looks at more than it may: with all other pixels turned to their negative nothing changes."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from steeldefect.evaluate.generator import evaluate_generator
from steeldefect.evaluate.synthesis import synthesize
from steeldefect.gan.training import train_gan
from steeldefect.runs.context import Context
from steeldefect.runs.prepare import prepare
from steeldefect.runs.store import Store, read_json
from tests.conftest import Compose

SMALL = [
    *("dataset.per_class=24", "split.validation_fraction=0.3", "quality.feature_size=32", "quality.draws=2"),
    *("quality.copies_images=12", "quality.copies_transforms=none", "classifier@quality.classifier=small_cnn"),
    *("scale.phases.retrain.updates=20", "gan.updates=3", "precision=32-true"),
]


def beside(context: Context, seen: np.ndarray, root: Path) -> Context:
    """The same run, the pixels of all images but `seen` negative, in a store of its own."""
    pixels = np.array(context.images.images)
    others = np.setdiff1d(np.arange(len(pixels)), seen)
    assert len(others)
    pixels[others] = 255 - pixels[others]
    return dataclasses.replace(context, store=Store(root), images=dataclasses.replace(context.images, images=pixels))


@pytest.mark.parametrize("more", [[], ["real_per_class=1"]], ids=["all", "low_data"])
def test_a_generator_sees_its_training_images_alone(tiny: Compose, tmp_path: Path, more: list[str]) -> None:
    context = prepare(tiny("train_gan", *SMALL, *more))
    made = [context, beside(context, context.real, tmp_path / "beside")]
    weights = [torch.load(c.store.folder("gans", train_gan(c)) / "generator.pt", weights_only=True) for c in made]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_nothing_that_is_chosen_or_measured_looks_at_the_test_part(tiny: Compose, tmp_path: Path) -> None:
    every = ["bank.filter=classifier", "quality.every=1", "quality.snapshot=best_kid", "gan.updates=6"]
    context = prepare(tiny("evaluate_gan", *SMALL, *every))
    allowed = np.union1d(context.split.train, context.split.validation)
    found = []
    for c in (context, beside(context, allowed, tmp_path / "beside")):
        gan = read_json(c.store.folder("gans", train_gan(c)) / "manifest.json")
        bank = np.load(c.store.folder("banks", synthesize(c)) / "images.npy")
        record = read_json(c.store.folder("quality", evaluate_generator(c)) / "record.json")
        found.append((gan["summary"], bank.tobytes(), record["figures"], record["copies"]))
    assert found[0] == found[1]
