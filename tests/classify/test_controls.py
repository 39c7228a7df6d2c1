"""The controls' images, what is chosen on validation, and that the test part is asked for once."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import torch

from steeldefect.classify.module import ClassifierModule, logits_of
from steeldefect.classify.parts import added_part, phase_data
from steeldefect.classify.training import train_cell
from steeldefect.data import augment
from steeldefect.data.augment import frozen_draws
from steeldefect.data.bank import permuted
from steeldefect.data.resize import resize
from steeldefect.runs.context import Context
from steeldefect.runs.errors import UserError
from steeldefect.runs.prepare import prepare
from tests.classify.test_training import record_of, with_bank
from tests.conftest import Compose


def cell(tiny: Compose, *overrides: str) -> Context:
    return with_bank(prepare(tiny("train_classifier", "classifier=small_cnn", *overrides)))


def test_classical_draws_are_frozen_and_of_their_class(tiny: Compose) -> None:
    context = cell(tiny, "mix=classical")
    one, again = added_part(context), added_part(context)
    other = added_part(cell(tiny, "mix=classical", "mix.seed=1"))
    assert one is not None and again is not None and other is not None
    assert np.array_equal(one[0], again[0]) and not np.array_equal(one[0], other[0])
    assert one[0].dtype == np.uint8 and one[0].shape[1:] == (32, 32)
    assert np.bincount(one[1]).tolist() == [4 * n for n in context.real_counts]
    data = phase_data(context, one, "retrain")
    originals = data.images[: len(context.real)].numpy().astype(float)
    for c in range(6):  # a draw is nearer to its own class's originals in mean gray than chance would have it
        own = one[0][one[1] == c]
        assert len({image.tobytes() for image in own}) > 0.9 * len(own)
        assert abs(own.mean() - originals[data.labels[: len(originals)].numpy() == c].mean()) < 30


def test_a_frozen_draw_has_the_label_of_the_image_that_it_is_a_draw_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "classical", lambda images: images)
    images = torch.from_numpy((np.arange(12) * 20)[:, None, None] * np.ones((1, 8, 8))).to(torch.uint8)
    labels = np.repeat([0, 1, 2], 4)
    drawn, of = frozen_draws(images, labels, [8, 4, 12], 0)
    assert np.array_equal(labels[(drawn[:, 0, 0] // 20).numpy()], of)


def test_real_extra_trains_on_the_training_images_that_low_data_left_out(tiny: Compose) -> None:
    context = cell(tiny, "mix=real_extra", "real_per_class=1")
    data = phase_data(context, added_part(context), "retrain")
    wanted = np.r_[context.real, context.extra]
    assert np.isin(wanted, context.split.train).all() and len(context.extra) > len(context.real)
    assert torch.equal(data.images, resize(context.images.images[wanted], data.images.shape[-1]))
    assert data.labels.tolist() == context.images.labels[wanted].tolist()


def test_shuffled_labels_keep_their_number_and_lose_their_meaning(tiny: Compose) -> None:
    labels = np.arange(6000) % 6
    mixed = permuted(labels, 0)
    assert np.array_equal(np.bincount(mixed), np.bincount(labels))
    assert 0.13 < (mixed == labels).mean() < 0.2
    assert np.array_equal(mixed, permuted(labels, 0)) and not np.array_equal(mixed, permuted(labels, 1))
    shuffled, org20 = (added_part(cell(tiny, f"mix={mix}")) for mix in ("shuffled", "org20"))
    assert shuffled is not None and org20 is not None
    assert np.array_equal(np.bincount(shuffled[1]), np.bincount(org20[1]))
    assert not np.array_equal(shuffled[0], org20[0])


@pytest.mark.parametrize("schedule", ["fixed_steps", "paper"])
@pytest.mark.parametrize("mix", ["org100", "org20", "org0", "classical", "oversampled", "bank1000", "real_extra"])
def test_a_filled_up_last_batch_is_named_in_the_id_of_the_phase_that_has_it(
    tiny: Compose, mix: str, schedule: str
) -> None:
    k = "real_per_class=3" if mix == "real_extra" else "real_per_class=null"
    context = cell(tiny, f"mix={mix}", f"schedule={schedule}", k, "bank.count=1200")
    added = added_part(context)
    sizes = {phase: len(phase_data(context, added, phase).labels) for phase in ("initial", "retrain")}
    for batch in (8, 11, 13, 16):
        own = cell(tiny, f"mix={mix}", f"schedule={schedule}", k, "bank.count=1200", f"optimizer.batch_size={batch}")
        assert own.initial_identity is not None
        for phase, identity in (("initial", own.initial_identity), ("retrain", own.cell_identity)):
            assert ("last_batch" in identity) == (sizes[phase] > batch and 0 < sizes[phase] % batch < batch / 4)


def test_oversampled_repeats_each_original_as_often(tiny: Compose) -> None:
    context = cell(tiny, "mix=oversampled", "schedule=paper")
    data = phase_data(context, added_part(context), "retrain")
    counts: dict[bytes, int] = {}
    for image in data.images.numpy():
        counts[image.tobytes()] = counts.get(image.tobytes(), 0) + 1
    assert set(counts.values()) == {5} and len(counts) == len(context.real)
    assert len(phase_data(context, added_part(context), "initial").labels) == len(context.real)


def test_every_kind_of_mix_trains_to_a_record_that_counts_its_images(tiny: Compose) -> None:
    found = {}
    for mix, *more in (
        ["classical"],
        ["shuffled"],
        ["oversampled", "schedule=paper"],
        ["bank1000", "real_per_class=3"],
        ["real_extra", "real_per_class=1"],
        *([mix, "augment=classical"] for mix in ("org100", "org20", "org0")),
    ):
        context = cell(tiny, f"mix={mix}", "phases.initial.updates=1", *more)
        record = record_of(context, train_cell(context))
        found[mix] = record["counts"]
        assert record["mix"] == mix and record["augment"] == ("classical" if mix.startswith("org") else "none")
        assert record["gan"] == ("edcgan" if mix in ("org0", "org20", "shuffled", "bank1000") else "none")
        assert (record["validation"] is None) is (record["real_per_class"] is not None)
        # two updates fit nothing; that wrong labels are not learnt is no reason to leave `shuffled` out
        assert record["train_accuracy"] < 0.9 and record["trained"] is (mix == "shuffled")
    n = found["classical"]["real"]
    assert found["org0"]["real"] == 0 and found["shuffled"]["synthetic"] == 4 * n
    assert found["classical"]["classical"] == found["oversampled"]["oversampled"] == 4 * n
    assert found["bank1000"]["real"] == 18 and found["bank1000"]["synthetic"] == 982
    assert found["real_extra"]["real"] == 30 and found["real_extra"]["synthetic"] == 0
    assert found["real_extra"]["validation"] == 0


class Watched:
    """Labels that note every question that touches the test part."""

    def __init__(self, labels: np.ndarray, test: np.ndarray) -> None:
        self.labels, self.test, self.asked = labels, np.zeros(len(labels), bool), 0
        self.test[test] = True

    def __getitem__(self, key: Any) -> Any:
        self.asked += bool(np.any(self.test[key]))
        return self.labels[key]

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        self.asked += 1
        return self.labels

    def __len__(self) -> int:
        return len(self.labels)


@pytest.mark.parametrize(
    ("overrides", "asked"),
    [
        (["mix=classical"], 1),
        (["mix=org20", "select=validation"], 1),
        (["mix=org100", "evaluate=validation"], 0),
        (["mix=real_extra", "real_per_class=1"], 1),
    ],
)
def test_test_labels_are_asked_for_once_a_cell_and_never_by_a_trial(
    tiny: Compose, overrides: list[str], asked: int
) -> None:
    context = cell(tiny, *overrides)
    watched = Watched(context.images.labels, context.split.test)
    images = dataclasses.replace(context.images, labels=watched)  # type: ignore[arg-type]
    train_cell(dataclasses.replace(context, images=images))
    assert watched.asked == asked


def test_a_trial_holds_no_figure_of_the_test_part(tiny: Compose) -> None:
    context = cell(tiny, "mix=org100", "evaluate=validation", "replicate=102")
    identifier = train_cell(context)
    folder = context.store.folder("trials", identifier)
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "record.json"]
    record = json.loads((folder / "record.json").read_text())
    assert not {"metrics", "per_class", "confusion"} & set(record) and 0 <= record["validation"]["accuracy"] <= 1
    assert not list(context.store.root.glob("cells/*"))


def test_validation_is_the_accuracy_on_the_validation_part(tiny: Compose) -> None:
    context = cell(
        tiny, "mix=org100", "keep_weights=true", "phases.retrain.updates=30", "split.validation_fraction=0.3"
    )
    folder = context.store.folder("cells", train_cell(context))
    module = ClassifierModule(context.settings["classifier"], context.settings["optimizer"], 6)
    module.network.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
    record, right = json.loads((folder / "record.json").read_text()), {}
    for name in ("train", "validation", "test"):
        part = getattr(context.split, name)
        predicted = logits_of(module, resize(context.images.images[part], 32), "32-true").argmax(1)
        right[name] = (predicted.numpy() == context.images.labels[part]).mean()
    assert len(set(right.values())) == 3, "else another part would do as well"
    assert record["validation"]["accuracy"] == pytest.approx(right["validation"])
    assert record["metrics"]["accuracy"] == pytest.approx(right["test"])


def test_the_best_epoch_on_validation_is_kept(tiny: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four epochs of four updates, the looks are fed accuracies of which the second is the best."""
    from steeldefect.classify import selection

    overrides = ["mix=org100", "phases.retrain.updates=10", "optimizer.batch_size=16"]
    seen: list[int] = []
    original = selection.logits_of

    def pretended(module: Any, images: Any, precision: str) -> Any:
        seen.append(int(module.trainer.global_step))
        logits = original(module, images, precision)
        return logits * 0 + (labels_as_logits if len(seen) == 2 else 0)

    context = cell(tiny, *overrides, "select=validation")
    labels_as_logits = torch.eye(6)[context.images.labels[context.split.validation]]
    monkeypatch.setattr(selection, "logits_of", pretended)
    chosen = record_of(context, train_cell(context))
    batches = -(-len(context.real) // 16)
    assert seen == sorted({*range(batches, 10, batches), 10})
    assert chosen["selected"] == {"accuracy": 1.0, "epoch": 2, "updates": 2 * batches, "of": len(seen)}
    # the weights after the second epoch are those of a run that ended there
    short = cell(tiny, *overrides[:1], f"phases.retrain.updates={2 * batches}", *overrides[2:])
    assert record_of(short, train_cell(short))["confusion"] == chosen["confusion"]
    last = cell(tiny, *overrides)
    assert record_of(last, train_cell(last))["selected"] is None


def test_selection_without_validation_images_is_refused(tiny: Compose) -> None:
    with pytest.raises(UserError, match="select=validation: there are no validation images"):
        train_cell(cell(tiny, "mix=org100", "select=validation", "split.validation_fraction=0"))
