"""All figures of a tiny generator, through the functions that the verb calls."""

import csv
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from steeldefect.data.resize import resize
from steeldefect.evaluate import generator
from steeldefect.evaluate.generator import evaluate_generator, recall
from steeldefect.evaluate.synthesis import synthesize
from steeldefect.gan.quality import diversity_shares
from steeldefect.gan.training import train_gan
from steeldefect.runs.context import Context
from steeldefect.runs.errors import MissingArtifact, UserError
from steeldefect.runs.prepare import prepare
from tests.conftest import Compose

BAR = 0.9
SMALL = [
    *("dataset.per_class=24", "split.validation_fraction=0.3", "quality.feature_size=64", "quality.draws=2"),
    *("quality.copies_images=30", "quality.copies_transforms=none", "classifier@quality.classifier=small_cnn"),
    *("scale.phases.retrain.updates=100", f"quality.collapsed_below={BAR}"),
]


def test_a_generator_gets_every_figure_beside_its_real_value(tiny: Compose) -> None:
    context = prepare(tiny("evaluate_gan", *SMALL))
    with pytest.raises(MissingArtifact, match=r"experiments/synthesize\.py"):
        evaluate_generator(context)
    train_gan(context)
    synthesize(context)
    identifier = evaluate_generator(context)
    folder = context.store.folder("quality", identifier)
    record = json.loads((folder / "record.json").read_text())
    assert record["id"] == identifier and record["part"] == "validation"
    assert record["ids"]["gan"] == context.gan_id and str(context.store.root) not in json.dumps(record["config"])
    figures = record["figures"]
    named = {"kid", "kid_floor", "kid_between_classes", "density", "density_real", "coverage", "coverage_real"}
    named |= {"gan_test", "gan_test_real", "gan_train", "copies_share"}
    assert set(figures) == named | {"diversity", "diversity_drawn", "diversity_real", "spectrum", "spectrum_real"}
    assert all(len(values) == 6 for values in figures.values())
    for metric in ("coverage", "coverage_real", "gan_test", "gan_test_real", "gan_train", "copies_share"):
        assert all(value is None or 0 <= value <= 1 for value in figures[metric])
    # two epochs draw noise: far from steel, and no class of its own
    known = [c for c, value in enumerate(figures["kid"]) if value is not None]
    assert len(known) >= 3
    assert known == [c for c, size in enumerate(record["set_sizes"]) if size >= 2]
    assert np.mean([figures["kid"][c] for c in known]) > np.mean([figures["kid_floor"][c] for c in known]) + 0.1
    assert np.mean(figures["gan_test"]) < np.mean(figures["gan_test_real"])
    shares = diversity_shares(figures)
    assert record["collapsed"] == [
        c for c, share in zip(record["classes"], shares, strict=True) if share and share < BAR
    ]
    assert record["collapsed"] and set(record["judges"]) == {"real", "synthetic"}
    with (folder / "quality.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 7 * len(figures)
    with Image.open(folder / "nearest_pairs.png") as picture:
        assert picture.height > 100
    # a second call finds it finished; on the test part it is another artifact, with the same judges
    assert evaluate_generator(context) == identifier
    final = prepare(tiny("evaluate_gan", *SMALL, "quality.on_test=true"))
    other = json.loads((final.store.folder("quality", evaluate_generator(final)) / "record.json").read_text())
    assert other["part"] == "test" and other["id"] != identifier
    assert other["ids"]["judges"] == record["ids"]["judges"] and other["figures"]["kid"] == figures["kid"]


def test_without_validation_images_there_is_nothing_to_hold_a_generator_against(tiny: Compose) -> None:
    with pytest.raises(UserError, match=r"split\.validation_fraction=0"):
        evaluate_generator(prepare(tiny("evaluate_gan", "split.validation_fraction=0")))


def test_the_judge_does_not_depend_on_the_classifier_of_a_sweep(tiny: Compose) -> None:
    one, other, filtering = (
        prepare(tiny("evaluate_gan", *overrides)).judge_identity(role)
        for overrides, role in (([], "measure"), (["classifier=vgg16", "augment=classical"], "measure"), ([], "filter"))
    )
    assert one == other and one["classifier"]["name"] == "resnet18"
    assert one != filtering  # what a filter prefers must not be what measures its effect


def test_in_recall_weights_count() -> None:
    logits = np.eye(3)[[0, 1, 1, 2]]
    labels = np.array([0, 0, 1, 1])
    assert recall(logits, labels, np.ones(4), 3) == [0.5, 0.5, None]
    assert recall(logits, labels, np.array([3.0, 1.0, 1.0, 1.0]), 3) == [0.75, 0.5, None]


def test_each_figure_of_a_judge_is_of_the_judge_and_the_part_that_it_names(
    tiny: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The judge that was trained on real images calls everything class 0, the other class 1."""
    trained: list[tuple[Any, np.ndarray]] = []
    looked: list[np.ndarray] = []

    def judge(context: Context, identity: Any) -> Any:
        def logits(images: np.ndarray) -> np.ndarray:
            looked.append(images)
            return np.eye(6)[np.full(len(images), 0 if identity["synthetic"] is None else 1)]

        return logits

    monkeypatch.setattr(generator, "load_judge", judge)
    monkeypatch.setattr(
        generator, "train_judge", lambda c, identity, images, labels: trained.append((identity, images))
    )
    bank = np.random.default_rng(0).integers(0, 256, (60, 16, 16), np.uint8), np.arange(60) % 6
    for override, part in (("quality.on_test=false", "validation"), ("quality.on_test=true", "test")):
        context = prepare(tiny("evaluate_gan", *SMALL, override))
        identities, chosen = generator._judges(context, "bank", bank)
        found = generator._judged(context, identities, bank)
        assert found["gan_test"] == found["gan_test_real"] == [1, 0, 0, 0, 0, 0]
        assert found["gan_train"] == [0, 1, 0, 0, 0, 0]
        held = context.images.images[getattr(context.split, part)]
        assert sum(np.array_equal(images, held) for images in looked) == 2
        looked.clear()
    generator._train_judges(context, identities, bank, chosen)
    assert [identity["synthetic"] is None for identity, _ in trained] == [True, False]
    assert np.array_equal(trained[0][1], context.images.images[context.real])
    assert np.array_equal(trained[1][1], bank[0][chosen])


def test_a_training_image_in_the_bank_is_a_copy_and_noise_is_none(tiny: Compose) -> None:
    context = prepare(tiny("evaluate_gan", *SMALL))
    size = context.settings["gan"]["image_size"]
    images = np.random.default_rng(0).integers(0, 256, (12, size, size), np.uint8)
    first = context.real[context.images.labels[context.real] == 0][0]
    images[0] = resize(context.images.images[[first]], size).numpy()[0]
    copies, _ = generator._copies(context, (images, np.arange(12) % 6))
    assert copies["share"] == [0.5, 0, 0, 0, 0, 0] and copies["largest"] > 0.9
