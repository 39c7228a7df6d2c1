from dataclasses import replace
from typing import Any

import pytest
from omegaconf import OmegaConf

from steeldefect.runs.identities import NEUTRAL, RECIPES, gan_identity
from steeldefect.runs.identity import digest
from steeldefect.runs.prepare import prepare
from steeldefect.runs.settings import plain
from tests.conftest import ROOT, Compose


def gan_id(composed: Compose, *overrides: str) -> str:
    return digest(gan_identity(plain(composed("train_gan", *overrides)), "split", "32-true", [210] * 6, 8000))


def test_a_generator_whose_last_batch_is_filled_up_is_another_one(composed: Compose) -> None:
    def identity(real: list[int], *overrides: str) -> dict[str, Any]:
        return gan_identity(plain(composed("train_gan", "scale=cpu", *overrides)), "split", "32-true", real, 8000)

    assert identity([200] * 6)["gan"]["batch_size"] == 64
    assert "last_batch" not in identity([200] * 6)  # 1,200 images: 48 are left over
    assert identity([200] * 5 + [218])["last_batch"] == "filled_up"  # 1,218: 2
    # 130 images of a class: 2 are left over, though 780 of all leave 12 as well
    assert "last_batch" in identity([130] + [180] * 5, "gan.conditioning=per_class")
    assert "last_batch" not in identity([180] * 6, "gan.conditioning=per_class")


def test_what_came_later_and_changes_some_generators_is_named_in_these_alone(composed: Compose) -> None:
    def named(real: list[int], updates: int, precision: str, *overrides: str) -> dict[str, Any]:
        settings = plain(composed("train_gan", "scale=cpu", "gan=edcgan_plus", *overrides))
        identity = gan_identity(settings, "split", precision, real, updates)
        late = ("average_decay", "mismatch", "r1", "conditional_norm")
        return {key: identity[key] for key in late if key in identity}

    alike = [168, 171, 161, 170, 170, 170]
    assert named(alike, 7680, "32-true") == {}
    # 0.999 ** 480 leaves 62 % of the first weights in the average
    assert named(alike, 480, "32-true") == {"average_decay": pytest.approx(0.05 ** (1 / 480), abs=1e-6)}
    assert named([900, 100], 7680, "32-true") == {"mismatch": "by_class_size"}
    assert named([900, 100], 7680, "32-true", "gan.discriminator.mismatch=0") == {}
    assert named([900, 100], 7680, "32-true", "gan.conditioning=per_class") == {}
    assert named(alike, 7680, "32-true", "gan.discriminator.r1_gamma=1") == {}
    half = {"conditional_norm": "format_of_the_maps"}
    assert named(alike, 7680, "bf16-mixed") == half
    assert named(alike, 7680, "bf16-mixed", "gan.generator.class_input=concat") == {}
    assert named(alike, 7680, "bf16-mixed", "gan.discriminator.r1_gamma=1") == half | {"r1": "float32"}


@pytest.mark.parametrize(
    ("name", "scale", "expected"),
    [
        ("edcgan", "smoke", "eaad2adad7ee"),
        ("edcgan", "cpu", "8676a6688150"),
        ("edcgan", "paper", "39a6a7fd1e8d"),
        ("dcgan", "cpu", "0de11b95b278"),
    ],
)
def test_keys_that_came_later_leave_ids_as_they_were(
    composed: Compose, monkeypatch: pytest.MonkeyPatch, name: str, scale: str, expected: str
) -> None:
    """The ids of recipe 2 before gan=edcgan_plus existed: its keys are left out at their neutral values."""
    monkeypatch.setitem(RECIPES, "gan", 2)
    assert gan_id(composed, f"gan={name}", f"scale={scale}", "gan.discriminator.elu_alpha=1.0") == expected


@pytest.mark.parametrize(
    "override",
    [
        "gan.optimizer.lr_discriminator=4e-4",
        "gan.generator.upsampling=resize",
        "gan.generator.class_input=conditional_norm",
        "gan.generator.noise=true",
        "gan.discriminator.input_gain=4",
        "gan.discriminator.detail_gain=8",
        "gan.discriminator.mismatch=1",
        "gan.discriminator.spectral_norm=true",
        "gan.discriminator.minibatch_std=true",
        "gan.discriminator.augment=[flip]",
        "gan.discriminator.r1_gamma=1",
        "gan.discriminator.r1_every=8",
    ],
)
def test_every_ingredient_has_a_say_in_the_id(composed: Compose, override: str) -> None:
    assert gan_id(composed, override) != gan_id(composed)


def test_the_neutral_values_are_those_of_edcgan_and_dcgan(composed: Compose) -> None:
    for name in ("edcgan", "dcgan"):
        gan = plain(composed("train_gan", f"gan={name}"))["gan"]
        assert {part: {key: gan[part][key] for key in keys} for part, keys in NEUTRAL.items()} == NEUTRAL


def test_an_ablation_is_edcgan_plus_but_for_one_value(composed: Compose) -> None:
    """Each of the experiment's gans; its name is its config's, and one value beside it differs, each time another one."""
    declared = OmegaConf.load(ROOT / "conf" / "experiment" / "gan_ablation.yaml").hydra.sweeper.params.gan
    names = [name.strip() for name in declared.split(",")]
    on_disk = {path.stem for path in (ROOT / "conf" / "gan").glob("edcgan_plus*.yaml")}
    assert set(names) == on_disk and len(names) == len(on_disk)
    full = flat(plain(composed("train_gan", "gan=edcgan_plus"))["gan"])
    changes = []
    for name in names:
        gan = flat(plain(composed("train_gan", f"gan={name}"))["gan"])
        assert gan.pop("name") == name
        changes.append({key: value for key, value in gan.items() if value != full[key]})
    assert [len(change) for change in changes] == [0] + [1] * (len(names) - 1)
    assert all(changes.count(change) == 1 for change in changes)


def test_projected_has_the_generator_of_edcgan_plus(composed: Compose) -> None:
    plus, projected = (plain(composed("train_gan", f"gan={name}"))["gan"] for name in ("edcgan_plus", "projected"))
    assert plus["generator"] == projected["generator"]


def flat(part: dict, prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in part.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def test_few_images_of_a_random_split_are_the_same_before_and_after_an_audit(tiny: Compose) -> None:
    """Its id names no scenes, so what it chooses must not hang on them; under split=grouped both do."""

    def chosen(split: str) -> tuple[list[int], list[int]]:
        audited = prepare(tiny("train_gan", f"split={split}", "real_per_class=2"))
        assert audited.table is not None
        return audited.real.tolist(), replace(audited, table=None).real.tolist()

    after, before = chosen("random")
    assert after == before
    after, before = chosen("grouped")
    assert after != before
