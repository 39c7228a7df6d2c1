"""What each mix adds, for how long it trains, and what its id is made of."""

import json

import pytest

from steeldefect.runs.context import Context
from steeldefect.runs.errors import UserError
from steeldefect.runs.identity import digest
from steeldefect.runs.mixes import ORG20, added_counts, mix_name, phase_updates
from steeldefect.runs.prepare import prepare
from steeldefect.runs.settings import plain
from tests.conftest import ROOT, Compose

NEU = [210] * 6
MIXES = sorted(path.stem for path in (ROOT / "conf" / "mix").glob("[!_]*.yaml"))


def cell(tiny: Compose, *overrides: str) -> Context:
    return prepare(tiny("train_classifier", "classifier=small_cnn", *overrides))


@pytest.mark.parametrize("mix", MIXES)
def test_a_mix_of_the_configs_bears_its_file_s_name(composed: Compose, mix: str) -> None:
    settings = plain(composed("train_classifier", f"mix={mix}", "real_per_class=10"))
    assert mix_name(settings["mix"]) == mix


def test_the_controls_have_the_size_of_org20_and_bank1000_fills_up(composed: Compose) -> None:
    for mix in ("classical", "oversampled", "shuffled", "real_extra"):
        settings = plain(composed("train_classifier", f"mix={mix}", "real_per_class=10", "schedule=paper"))
        assert added_counts(NEU, settings["mix"]) == [840] * 6
    filled = plain(composed("train_classifier", "mix=bank1000", "real_per_class=10"))["mix"]
    assert sum(added_counts([10] * 6, filled)) == 940
    assert sum(added_counts([50] * 6, filled)) == 700
    with pytest.raises(UserError, match=r"mix\.total=1000: there are 1260 real images already"):
        added_counts(NEU, filled)
    assert mix_name(ORG20 | {"kind": "real_extra", "synthetic_share": 0.5}) == "real_extra-org50"
    # in one table beside org20, and no other name for what adds nothing
    assert [mix_name(ORG20 | {"balance": "uniform", "synthetic_share": s}) for s in (0.8, 0)] == [
        "org20-uniform",
        "org100",
    ]
    assert added_counts([10] * 6, ORG20 | {"kind": "real_extra"}, left=[25] * 6) == [25] * 6


def test_a_control_trains_as_long_as_org20_and_oversampled_five_times_as_long_as_org100(composed: Compose) -> None:
    def updates(mix: str) -> list[int]:
        settings = plain(composed("train_classifier", "scale=paper", "schedule=paper", f"mix={mix}"))
        return [phase_updates(settings, "paper", phase, NEU) for phase in ("initial", "retrain")]

    assert updates("classical") == updates("shuffled") == updates("oversampled") == updates("org20") == [3000, 30000]
    assert updates("org100") == [3000, 6000]


def test_oversampled_at_fixed_steps_is_org100_and_says_so(tiny: Compose, caplog: pytest.LogCaptureFixture) -> None:
    same = cell(tiny, "mix=oversampled", "schedule=fixed_steps")
    org100 = cell(tiny, "mix=org100", "schedule=fixed_steps")
    assert "is org100: the same images and updates" in caplog.text
    assert same.mix == "org100" and digest(same.cell_identity) == digest(org100.cell_identity)
    own = cell(tiny, "mix=oversampled", "schedule=paper", "phases.retrain.updates=40")
    assert own.mix == "oversampled" and own.schedules == ["paper"]
    assert digest(own.cell_identity) != digest(cell(tiny, "mix=org20", "phases.retrain.updates=40").cell_identity)


def test_new_keys_at_their_neutral_value_are_no_part_of_an_id(tiny: Compose) -> None:
    """Cells made before there were controls keep their ids."""
    identity = cell(tiny, "mix=org20").cell_identity
    assert identity["mix"] == {"synthetic_share": 0.8, "balance": "real"}
    assert not {"select", "evaluate"} & set(identity)
    chosen = cell(tiny, "mix=org20", "select=validation").cell_identity
    assert chosen["select"] == "validation" and digest(chosen) != digest(identity)


def test_every_arm_is_a_cell_of_its_own_on_a_shared_initial_phase(tiny: Compose) -> None:
    arms = [cell(tiny, f"mix={mix}") for mix in ("org100", "org20", "classical", "shuffled")]
    arms.append(cell(tiny, "mix=oversampled", "schedule=paper"))
    assert len({digest(arm.cell_identity) for arm in arms}) == 5
    assert len({json.dumps(arm.initial_identity, sort_keys=True) for arm in arms}) == 1
    augmented = [cell(tiny, f"mix={mix}", "augment=classical") for mix in ("org100", "org20", "org0")]
    initials = [digest(arm.initial_identity) for arm in augmented]
    assert initials[0] == initials[1] != initials[2]
    assert initials[0] != digest(arms[0].initial_identity)
    assert cell(tiny, "mix=shuffled").bank_id == cell(tiny, "mix=org20").bank_id
    assert cell(tiny, "mix=classical").bank_id is None
    other = cell(tiny, "mix=shuffled", "mix.seed=7")
    assert digest(other.cell_identity) != digest(arms[3].cell_identity)


def test_low_data_reaches_the_generator_and_its_id(tiny: Compose) -> None:
    few, more = (cell(tiny, "mix=org20", f"real_per_class={k}") for k in (2, 4))
    assert len({few.gan_id, more.gan_id, cell(tiny, "mix=org20").gan_id}) == 3
    assert few.real_counts == [2] * 6 and set(few.real) < set(more.real)
    gan = few.gan_identity["gan"]
    assert gan["updates"] == few.settings["scale"]["gan"]["low_data_updates"] == more.gan_identity["gan"]["updates"]
    assert cell(tiny, "mix=org20").gan_identity["gan"]["updates"] is None
    # different scenes while they last, and their number in the record
    assert few.table is not None and few.real_scenes is not None
    labels, scenes = few.images.labels, few.table.scenes
    there = [len(set(scenes[few.split.train[labels[few.split.train] == c]].tolist())) for c in range(6)]
    assert list(few.real_scenes.values()) == [min(2, n) for n in there]


def test_low_data_batches_hold_at_most_64(composed: Compose) -> None:
    paper = plain(composed("train_gan", "scale=paper", "real_per_class=20"))
    assert paper["gan"]["batch_size"] == 64 and paper["gan"]["updates"] == 8000
    assert plain(composed("train_gan", "scale=paper", "real_per_class=20", "gan.updates=5"))["gan"]["updates"] == 5


def test_real_extra_takes_other_real_images_while_they_last(tiny: Compose) -> None:
    one = cell(tiny, "mix=real_extra", "real_per_class=1")
    assert one.added_counts == [4] * 6 and not set(one.real) & set(one.extra)
    assert set(one.extra) < set(one.split.train) and one.bank_id is None
    wider = cell(tiny, "mix=org100", "real_per_class=5")
    assert set(wider.real) == set(one.real) | set(one.extra)
    many = cell(tiny, "mix=real_extra", "real_per_class=4")
    left = [total - 4 for total in cell(tiny, "mix=org100").real_counts]
    assert many.added_counts == [min(16, n) for n in left]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["mix.kind=banc"], r"mix\.kind=banc: did you mean 'bank'"),
        (["mix.total=900"], r"mix\.total=900 and mix\.synthetic_share=0\.8: give one"),
        (["mix=bank1000", "mix.total=0"], r"mix\.total=0: must be null or"),
        (["mix=bank1000", "mix.kind=oversampled"], r"mix\.total=1000: mix\.kind=oversampled adds by"),
        (["mix=classical", "mix.synthetic_share=1"], r"mix\.kind=classical keeps the originals"),
        (["mix=classical", "mix.seed=null"], r"mix\.seed=None: mix\.kind=classical draws from a seed"),
        (["mix.seed=3"], r"mix\.seed=3: mix\.kind=bank draws nothing"),
        (["mix=real_extra"], r"mix\.kind=real_extra: all real images are in use; set real_per_class"),
        (["select=best"], r"select=best: did you mean 'last'"),
        (["evaluate=train"], r"evaluate=train: choices: test, validation"),
        (["select=validation", "real_per_class=5"], r"select=validation: with real_per_class=5 nothing is chosen"),
    ],
)
def test_mixes_that_cannot_be_made_are_refused(composed: Compose, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        plain(composed("train_classifier", *overrides))


@pytest.mark.parametrize(
    "override",
    [
        *("classifier.image_size=48", "classifier=resnet18", "optimizer.momentum=0.5", "optimizer.batch_size=9"),
        *("optimizer.lr=0.3", "augment=classical", "repeat=1", "select=validation", "phases.initial.updates=3"),
        *("phases.retrain.updates=5", "real_per_class=3", "split_seed=7", "train_seed=7", "evaluate=validation"),
    ],
)
def test_each_key_has_its_say_in_the_id_of_a_cell(tiny: Compose, override: str) -> None:
    plain = digest(cell(tiny, "mix=org100").cell_identity)
    assert digest(cell(tiny, "mix=org100", override).cell_identity) != plain
    assert digest(cell(tiny, "mix=org100", "keep_weights=true", "trainer.threads=1").cell_identity) == plain
