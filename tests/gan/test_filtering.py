from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from steeldefect.data.bank import read_bank
from steeldefect.data.datamodule import to_float
from steeldefect.evaluate import synthesis
from steeldefect.evaluate.synthesis import synthesize
from steeldefect.gan.filtering import candidates, most_plausible
from steeldefect.gan.networks import PerClass
from steeldefect.gan.sampling import draw, load_discriminator, load_generator
from steeldefect.gan.training import train_gan
from steeldefect.runs.context import Context
from steeldefect.runs.prepare import prepare
from tests.conftest import Compose


def test_the_share_that_is_asked_for_is_kept_of_each_class() -> None:
    drawn = candidates(30, 3, 0.25)
    assert drawn == 120
    images = np.random.default_rng(0).integers(0, 256, (drawn, 4, 4), dtype=np.uint8)
    brightness = images.mean((1, 2))
    kept = most_plausible(np.split(images, 5), 30, 3, lambda part, labels: part.mean((1, 2)))
    assert (kept % 3 == np.arange(30) % 3).all() and len(set(kept)) == 30
    for c in range(3):
        own = np.arange(c, drawn, 3)
        dropped = np.setdiff1d(own, kept)
        assert brightness[kept[c::3]].min() > brightness[dropped].max()
        assert (np.diff(kept[c::3]) > 0).all()  # the first of a class are not its best
    assert most_plausible([images], 30, 3, lambda part, labels: part.mean((1, 2))).tolist() == kept.tolist()


def test_an_odd_count_fills_the_bank() -> None:
    drawn = candidates(10, 3, 0.5)
    kept = most_plausible([np.zeros((drawn, 2, 2), np.uint8)], 10, 3, lambda part, labels: np.zeros(len(part)))
    assert (kept % 3 == np.arange(10) % 3).all() and len(set(kept)) == 10


@pytest.fixture
def trained(tiny: Compose) -> Context:
    context = prepare(tiny("train_gan"))
    train_gan(context)
    return context


def test_filtered_banks_differ_are_made_alike_twice_and_each_image_can_be_drawn_alone(
    tiny: Compose, trained: Context, tmp_path: Path
) -> None:
    plain = synthesize(trained)
    assert "filter" not in trained.bank_identity
    judge = ["classifier@quality.classifier=small_cnn", "scale.phases.retrain.updates=20"]
    found = {}
    for by in ("classifier", "discriminator"):
        context = prepare(tiny("synthesize", f"bank.filter={by}", *judge))
        assert context.gan_id == trained.gan_id
        identifier = synthesize(context)
        folder = context.store.folder("banks", identifier)
        images, labels = read_bank(folder, context.split_id)
        numbers, count = np.load(folder / "latents.npy"), context.bank_identity["count"]
        assert (labels == np.arange(count) % 6).all() and (numbers % 6 == labels).all()
        gan, seed = context.settings["gan"], context.bank_identity["seed"]
        generator = load_generator(context.store.folder("gans", context.gan_id), gan, 6)
        for k in (0, 7, count - 1):
            (alone,) = draw(generator, gan, 6, seed, int(numbers[k]), 1)
            assert np.array_equal(alone[0], images[k])
        found[by] = (identifier, numbers, np.array(images))
    assert len({plain, *(identifier for identifier, _, _ in found.values())}) == 3
    assert found["classifier"][1].tolist() != found["discriminator"][1].tolist()
    # and once more from nothing
    again = prepare(tiny("synthesize", "bank.filter=discriminator"))
    (again.store.folder("banks", found["discriminator"][0]) / "manifest.json").unlink()
    torch.manual_seed(123)
    assert synthesize(again) == found["discriminator"][0]
    repeated = read_bank(again.store.folder("banks", found["discriminator"][0]), again.split_id)[0]
    assert np.array_equal(repeated, found["discriminator"][2])


def test_a_collapsed_class_is_named_in_the_manifest(tiny: Compose, trained: Context, caplog) -> None:
    """With a bar between the least and the most diverse class, those below it are named; with a bar of 0 none is."""
    shares = trained.store.manifest("banks", synthesize(trained))["summary"]["diversity"]
    ordered = sorted(shares, key=shares.get)
    bar = (shares[ordered[2]] + shares[ordered[3]]) / 2
    assert 0 < bar <= 1
    caplog.clear()
    strict = prepare(tiny("synthesize", f"quality.collapsed_below={bar}", "bank.seed=8"))
    summary = strict.store.manifest("banks", synthesize(strict))["summary"]
    below = [name for name in strict.images.classes if summary["diversity"][name] < bar]
    assert 0 < len(below) < 6 and summary["collapsed"] == below
    assert "the generator has collapsed" in caplog.text and all(name in caplog.text for name in below)
    lenient = prepare(tiny("synthesize", "quality.collapsed_below=0", "bank.seed=9"))
    assert lenient.store.manifest("banks", synthesize(lenient))["summary"]["collapsed"] == []


def test_plausible_is_what_the_classifier_calls_by_its_label(
    tiny: Compose, trained: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A judge that knows: an image of gray k is of class k."""

    def judge(context: Context, identity: Any) -> Any:
        return lambda images: np.eye(6)[images.mean((1, 2)).astype(int) % 6] * 9

    seen = []
    monkeypatch.setattr(
        synthesis, "train_judge", lambda context, identity, images, labels: seen.append((images, labels))
    )
    monkeypatch.setattr(synthesis, "load_judge", judge)
    context = prepare(tiny("synthesize", "bank.filter=classifier"))
    score = synthesis._plausibility(context, context.store.folder("gans", context.gan_id))
    grays, own = np.arange(12, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8), np.arange(12) % 6
    assert (score(grays, own) > -0.01).all() and (score(grays, (own + 1) % 6) < -8).all()
    ((images, labels),) = seen
    assert np.array_equal(images, context.images.images[context.real])
    assert np.array_equal(labels, context.images.labels[context.real])


@pytest.mark.parametrize("conditioning", ["conditional", "per_class"])
def test_plausible_is_what_the_discriminator_calls_real(tiny: Compose, tmp_path: Path, conditioning: str) -> None:
    overrides = [f"gan.conditioning={conditioning}"]
    train_gan(prepare(tiny("train_gan", *overrides)))
    context = prepare(tiny("synthesize", "bank.filter=discriminator", *overrides))
    folder, gan = context.store.folder("gans", context.gan_id), context.settings["gan"]
    images = np.random.default_rng(0).integers(0, 256, (12, gan["image_size"], gan["image_size"]), np.uint8)
    labels = np.arange(12) % 6
    found = synthesis._plausibility(context, folder)(images, labels)
    discriminator = load_discriminator(folder, gan, 6)
    for k in range(12):
        own = discriminator.of(int(labels[k])) if isinstance(discriminator, PerClass) else discriminator
        with torch.inference_mode():
            logit = own.eval()(to_float(torch.from_numpy(images[k : k + 1])), torch.from_numpy(labels[k : k + 1]))
        assert found[k] == pytest.approx(float(logit), abs=1e-4)
