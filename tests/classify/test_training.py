"""Real, tiny cells on the rendered data set."""

import csv
import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from steeldefect.classify import training
from steeldefect.classify.module import ClassifierModule, logits_of, train_accuracy
from steeldefect.classify.parts import added_part, phase_data
from steeldefect.classify.training import _missed, train_cell
from steeldefect.data.bank import labels_in_turn, write_bank
from steeldefect.data.datamodule import MixDataModule
from steeldefect.report.collect import collect, write_committed
from steeldefect.runs.context import Context
from steeldefect.runs.errors import MissingArtifact
from steeldefect.runs.identity import digest
from steeldefect.runs.prepare import prepare
from steeldefect.runs.settings import plain
from steeldefect.runs.training import LastState, fit
from tests.conftest import Compose


def with_bank(context: Context) -> Context:
    """A bank of noise in the place that the context's generator would fill."""
    with context.store.write("banks", context.bank_identity) as work:
        if work is not None:
            count = context.bank_identity["count"]
            images = np.random.default_rng(0).integers(0, 256, (count, 16, 16), dtype=np.uint8)
            write_bank(work.folder, [images], labels_in_turn(count, 6), context.images.classes, 16)
    return context


def record_of(context: Context, identifier: str) -> dict:
    return json.loads((context.store.folder("cells", identifier) / "record.json").read_text())


def test_a_cell_run_twice_trains_once(tiny: Compose) -> None:
    context = prepare(tiny("train_classifier", "classifier=small_cnn", "mix=org100"))
    identifier = train_cell(context)
    folder = context.store.folder("cells", identifier)
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "predictions.csv", "record.json"]
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert train_cell(prepare(tiny("train_classifier", "classifier=small_cnn", "mix=org100"))) == identifier
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_the_log_says_what_a_cell_is_worth(tiny: Compose, caplog: pytest.LogCaptureFixture) -> None:
    """After four updates it has learnt nothing."""
    with caplog.at_level(logging.INFO):
        context = prepare(tiny("train_classifier", "classifier=small_cnn", "mix=org100"))
        record = record_of(context, train_cell(context))
    for name, key in (("accuracy", "accuracy"), ("balanced accuracy", "balanced_accuracy"), ("AP (paper)", "mean_pr")):
        assert f"{name} {record['metrics'][key]:.4f}" in caplog.text
    own = f"{100 * record['train_accuracy']:.1f}"
    assert not record["trained"] and f"not trained: {own} % of its own training images right" in caplog.text
    missed = [c for c, recall in zip(record["classes"], record["per_class"]["recall"], strict=True) if recall == 0]
    (told,) = [entry.getMessage() for entry in caplog.records if "was called" in entry.getMessage()]
    assert missed and told.endswith("; ".join(f"no image of {name} was called {name}" for name in missed))


def test_a_class_that_is_not_in_the_test_part_is_not_missed() -> None:
    assert _missed({"classes": ["a", "b", "c"], "confusion": [[2, 0, 0], [0, 0, 0], [1, 0, 0]]}) == ["c"]
    assert _missed({"classes": ["a", "b"]}) == []


def test_a_record_says_what_was_done_and_found(tiny: Compose) -> None:
    context = with_bank(prepare(tiny("train_classifier", "classifier=small_cnn", "mix=org20", "replicate=1")))
    identifier = train_cell(context)
    record = record_of(context, identifier)
    assert record["id"] == identifier and record["mix"] == "org20" and record["classifier"] == "small_cnn"
    assert record["schedules"] == ["fixed_steps", "paper"]
    assert record["counts"]["synthetic"] == 4 * record["counts"]["real"]
    assert record["updates"] == {"initial": 2, "retrain": 4}
    assert record["ids"]["bank"] == context.bank_id and record["gan"] == "edcgan"
    assert record["trained"] is (record["train_accuracy"] >= 0.9)
    assert sum(map(sum, record["confusion"])) == record["counts"]["test"] == len(context.split.test)
    assert str(context.store.root.resolve()) not in json.dumps(record)
    with (context.store.folder("cells", identifier) / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [context.images.names[i] for i in context.split.test]
    logits = np.array([[float(row[f"logit_{name}"]) for name in context.images.classes] for row in rows])
    labels = np.array([context.images.classes.index(row["label"]) for row in rows])
    assert (logits.argmax(1) == labels).mean() == pytest.approx(record["metrics"]["accuracy"])


def test_phase_initial_is_shared_between_mixes_but_not_with_org0(tiny: Compose) -> None:
    contexts = [
        with_bank(prepare(tiny("train_classifier", "classifier=small_cnn", f"mix={m}")))
        for m in ("org20", "org50", "org0")
    ]
    for context in contexts:
        train_cell(context)
    initials = [digest(context.initial_identity) for context in contexts]
    assert initials[0] == initials[1] != initials[2]
    assert len(list((contexts[0].store.root / "initials").glob("[!.]*"))) == 2
    assert record_of(contexts[2], digest(contexts[2].cell_identity))["counts"]["real"] == 0


def test_a_repeat_is_another_training_on_the_same_split_and_bank(tiny: Compose) -> None:
    one = with_bank(prepare(tiny("train_classifier", "classifier=small_cnn", "mix=org20")))
    other = prepare(tiny("train_classifier", "classifier=small_cnn", "mix=org20", "repeat=1"))
    assert (one.split_id, one.gan_id, one.bank_id) == (other.split_id, other.gan_id, other.bank_id)
    first, second = (record_of(context, train_cell(context)) for context in (one, other))
    assert first["id"] != second["id"] and first["ids"]["initial"] != second["ids"]["initial"]
    assert (second["repeat"], second["train_seed"]) == (1, 1000) and (first["repeat"], first["train_seed"]) == (0, 0)
    assert first["counts"] == second["counts"] and first["replicate"] == second["replicate"]
    weights = [
        torch.load(c.store.folder("initials", digest(c.initial_identity)) / "weights.pt", weights_only=True)
        for c in (one, other)
    ]
    assert not any(torch.equal(value, weights[1][name]) for name, value in weights[0].items() if value.dim() > 1)
    orders = [phase_data(c, added_part(c), "retrain").seed for c in (one, other)]
    assert orders[0] != orders[1]


def test_phase_retrain_begins_with_the_weights_of_initial(tiny: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    context = with_bank(prepare(tiny("train_classifier", "classifier=small_cnn", "mix=org20")))
    begun: list[dict[str, torch.Tensor]] = []

    def watched(module: ClassifierModule, *rest: Any) -> float:
        begun.append({name: value.clone() for name, value in module.network.state_dict().items()})
        return fit(module, *rest)

    monkeypatch.setattr(training, "fit", watched)
    train_cell(context)
    folder = context.store.folder("initials", digest(context.initial_identity))
    kept = torch.load(folder / "weights.pt", weights_only=True)
    assert len(begun) == 2 and all(torch.equal(value, begun[1][name]) for name, value in kept.items())
    assert not all(torch.equal(value, begun[0][name]) for name, value in kept.items())


def test_what_a_network_says_of_an_image_does_not_hang_on_the_others(composed: Compose) -> None:
    options = plain(composed("train_classifier", "classifier=mobilenet_v2", "scale=smoke"))
    module = ClassifierModule(options["classifier"], options["optimizer"], 3)
    images = torch.randint(0, 256, (6, 32, 32), dtype=torch.uint8)
    one = torch.cat([logits_of(module.train(), images[i : i + 1], "32-true") for i in range(6)])
    torch.testing.assert_close(logits_of(module.train(), images, "32-true"), one, rtol=1e-3, atol=1e-4)


class Brightness(torch.nn.Module):
    """Dark images are class 0, bright ones class 1."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        bright = self.gain * images.mean((1, 2, 3))
        return torch.stack([-bright, bright], 1)


def test_training_accuracy_is_of_images_from_all_of_the_mix() -> None:
    """1,000 black images, which are called by their name, and behind them as many white ones, which are not."""
    images = np.repeat(np.array([0, 255], np.uint8), 1000)[:, None, None] * np.ones((1, 8, 8), np.uint8)
    data = MixDataModule((images, np.zeros(2000, np.int64)), None, 8, 16, 0)
    module = ClassifierModule({"name": "small_cnn", "weights": None}, {}, 2)
    module.network = Brightness()
    assert train_accuracy(module, data, "32-true") == pytest.approx(0.5, abs=0.01)


def test_org20_is_one_cell_under_both_schedules_and_org100_is_not(tiny: Compose) -> None:
    for mix, same in (("org20", True), ("org100", False)):
        ids = {
            digest(
                prepare(
                    tiny("train_classifier", f"mix={mix}", f"schedule={s}", "phases.retrain.updates=40")
                ).cell_identity
            )
            for s in ("paper", "fixed_steps")
        }
        assert (len(ids) == 1) is same


def test_a_cell_without_its_bank_names_the_command(tiny: Compose) -> None:
    with pytest.raises(MissingArtifact, match=r"python experiments/synthesize\.py"):
        train_cell(prepare(tiny("train_classifier", "mix=org20")))


def test_a_random_split_tells_overlapping_test_images_from_clean_ones(tiny: Compose) -> None:
    context = prepare(tiny("train_classifier", "classifier=small_cnn", "mix=org100", "split=random"))
    identifier = train_cell(context)
    metrics, answers = record_of(context, identifier)["metrics"], collect(context.store.root).tested[identifier]
    plates = context.images.plates
    assert plates is not None
    leaking = {context.images.names[i] for i in context.split.test if plates[i] in plates[context.split.train]}
    assert 0 < len(leaking) < len(context.split.test)
    assert set(answers.image[answers.overlaps == 1]) == leaking
    right = answers.label == answers.predicted
    assert metrics["accuracy_overlapping"] == pytest.approx(right[answers.overlaps == 1].mean())
    assert metrics["accuracy_clean"] == pytest.approx(right[answers.overlaps == 0].mean())
    # what a committed table keeps is the same
    committed = context.store.root / "committed"
    committed.mkdir()
    write_committed(collect(context.store.root), committed)
    kept = collect(committed).tested[identifier]
    assert np.array_equal(kept.overlaps, answers.overlaps) and np.array_equal(kept.scene, answers.scene)


def test_overlaps_are_with_what_was_trained_on(tiny: Compose) -> None:
    asked = ("train_classifier", "split=random", "mix=org100")
    whole, few = (prepare(tiny(*asked, *more)) for more in ([], ["real_per_class=1"]))
    assert whole.overlapping is not None and few.overlapping is not None
    plates = few.images.plates
    assert plates is not None
    assert few.overlapping.tolist() == [plates[i] in plates[few.real] for i in few.split.test]
    assert 0 < few.overlapping.sum() < whole.overlapping.sum()
    assert few.overlapping_share == few.overlapping.mean()


def test_retrain_only_has_no_initial_phase(tiny: Compose) -> None:
    context = prepare(tiny("train_classifier", "classifier=small_cnn", "mix=org100", "phases=retrain_only"))
    record = record_of(context, train_cell(context))
    assert record["updates"]["initial"] == 0 and record["ids"]["initial"] is None


@pytest.mark.parametrize("augment", ["none", "classical"])
def test_a_small_network_learns_the_rendered_classes(tiny: Compose, augment: str) -> None:
    """60 updates are enough to leave chance (1/6) far behind on the training images."""
    overrides = [
        "classifier=small_cnn",
        "mix=org100",
        f"augment={augment}",
        "phases.retrain.updates=120",
        "keep_weights=true",
    ]
    context = prepare(tiny("train_classifier", *overrides))
    identifier = train_cell(context)
    assert record_of(context, identifier)["train_accuracy"] > 0.4
    assert (context.store.folder("cells", identifier) / "weights.pt").exists()


def test_a_reading_of_the_curves_is_written_once(tiny: Compose, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("steeldefect.classify.module.LOG_EVERY", 2)
    context = prepare(tiny("train_classifier", "classifier=small_cnn"))
    module = ClassifierModule(context.settings["classifier"], context.settings["optimizer"], 6)
    data = MixDataModule((context.images.images[context.real], context.images.labels[context.real]), None, 32, 4, 0)
    assert len(context.real) > 5 * 4, "one epoch"
    limits = {"max_steps": 5, "max_epochs": -1}
    fit(module, data, context.settings, tmp_path, "32-true", 0, "test", [], limits)
    with (tmp_path / "log" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [2, 4, 5]
    assert all(float(row["train/loss"]) > 0 and 0 <= float(row["train/accuracy"]) <= 1 for row in rows)


def test_an_interrupted_cell_goes_on_to_the_same_record(tiny: Compose, tmp_path: Path, monkeypatch) -> None:
    overrides = ["classifier=small_cnn", "mix=org100", "phases.retrain.updates=12", "trainer.checkpoint_seconds=0"]
    straight = prepare(tiny("train_classifier", *overrides))
    expected = record_of(straight, train_cell(straight))

    from steeldefect.classify.module import ClassifierModule

    original = ClassifierModule.on_train_batch_end

    def interrupted(self, outputs, batch, batch_idx) -> None:
        original(self, outputs, batch, batch_idx)
        (state,) = [callback for callback in self.trainer.callbacks if isinstance(callback, LastState)]
        state.begun = time.monotonic() - 60
        if self.trainer.max_steps == 12 and self.updates == 8:
            raise KeyboardInterrupt

    again = prepare(tiny("train_classifier", *overrides, f"hydra.run.dir={tmp_path}"))
    object.__setattr__(again, "store", type(again.store)(tmp_path / "other"))
    monkeypatch.setattr(ClassifierModule, "on_train_batch_end", interrupted)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train_cell(again)
    assert list((tmp_path / "other" / "cells").glob(".*.partial/last.ckpt"))
    monkeypatch.setattr(ClassifierModule, "on_train_batch_end", original)
    found = record_of(again, train_cell(again))
    # a minute of the process that was interrupted counts
    assert found["cost"]["seconds"] > 60 and again.store.manifest("cells", found["id"])["made"]["seconds"] > 60
    for record in (expected, found):
        del record["cost"], record["environment"]
    assert found == expected
