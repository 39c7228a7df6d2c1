import numpy as np
import pytest

from steeldefect.data.bank import diversity
from steeldefect.data.resize import resize
from steeldefect.evaluate.synthesis import as_drawn, synthesize
from steeldefect.gan.orbit import placed, placing
from steeldefect.gan.sampling import CHUNK, draw_numbers, load_generator
from steeldefect.gan.training import train_gan
from steeldefect.runs.prepare import prepare
from steeldefect.runs.store import MANIFEST, read_json
from tests.conftest import Compose

RAMP = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, :, None] + 2 * np.arange(64, dtype=np.uint8), (400, 64, 64))


def test_only_what_moves_pixels_is_drawn_through() -> None:
    assert placing(["brightness", "translation", "cutout", "flip"]) == ["flip", "translation"]
    assert placing([]) == []


def test_flips_show_each_of_four_views_equally_often() -> None:
    views = [RAMP[0], RAMP[0, ::-1], RAMP[0, :, ::-1], RAMP[0, ::-1, ::-1]]
    found = placed(RAMP, ["flip"], 0, 0)
    counts = [sum(np.array_equal(image, view) for image in found) for view in views]
    assert sum(counts) == 400 and min(counts) > 70


def test_shifts_are_whole_pixels_up_to_an_eighth_with_a_mirrored_edge() -> None:
    found = placed(RAMP, ["translation"], 0, 0)
    # the middle of the ramp is never mirrored: its gray level tells the shift
    down, right = RAMP[0, 32, 32].astype(int) - found[:, 32, 32], found[:, 32, 33].astype(int) - found[:, 32, 32]
    assert set(right) == {2}
    assert down.min() == -24 and down.max() == 24  # 8 rows and 8 columns of two levels
    for image in found[:50]:
        assert {int(step) for step in np.abs(np.diff(image[32].astype(int)))} == {2}


def test_another_seed_or_part_is_moved_otherwise_and_the_same_one_is_not() -> None:
    both = ["flip", "translation"]
    assert np.array_equal(placed(RAMP, both, 3, 64), placed(RAMP, both, 3, 64))
    assert not np.array_equal(placed(RAMP, both, 3, 64), placed(RAMP, both, 3, 128))
    assert not np.array_equal(placed(RAMP, both, 3, 64), placed(RAMP, both, 4, 64))


@pytest.mark.parametrize("gan", ["edcgan", "edcgan_plus"])
def test_a_bank_is_drawn_through_what_its_discriminator_saw(tiny: Compose, gan: str) -> None:
    overrides = [f"gan={gan}"]
    seen = [prepare(tiny("synthesize", *overrides, f"bank.as_seen={flag}")) for flag in ("true", "false")]
    assert seen[0].bank_identity.get("seen_through", []) == (["flip", "translation"] if gan == "edcgan_plus" else [])
    assert "seen_through" not in seen[1].bank_identity
    assert (seen[0].bank_id == seen[1].bank_id) == (gan == "edcgan")


def test_a_bank_holds_the_images_of_the_generator_as_they_are_placed(tiny: Compose) -> None:
    train_gan(prepare(tiny("train_gan", "gan=edcgan_plus")))
    banks = []
    for flag in ("true", "false"):
        context = prepare(tiny("synthesize", "gan=edcgan_plus", f"bank.as_seen={flag}"))
        banks.append(np.load(context.store.folder("banks", synthesize(context)) / "images.npy"))
    seen, plain = banks
    seed = context.bank_identity["seed"]
    parts = [
        placed(plain[k : k + CHUNK], ["flip", "translation"], seed, k) for k in range(0, len(plain) - CHUNK, CHUNK)
    ]
    assert np.array_equal(seen[: sum(map(len, parts))], np.concatenate(parts))
    assert not np.array_equal(seen, plain)


@pytest.mark.parametrize("filtered", [[], ["bank.filter=discriminator"]])
def test_flips_and_shifts_hide_no_collapse(tiny: Compose, filtered: list[str]) -> None:
    """The spread that is held against the real one is that of the images as they are drawn."""
    train_gan(prepare(tiny("train_gan", "gan=edcgan_plus")))
    context = prepare(tiny("synthesize", "gan=edcgan_plus", *filtered))
    bank = context.store.folder("banks", synthesize(context))
    images, labels = np.load(bank / "images.npy"), np.load(bank / "labels.npy")
    numbers = np.load(bank / "latents.npy") if filtered else np.arange(len(labels))
    order = np.argsort(numbers)
    gan, seed = context.settings["gan"], context.bank_identity["seed"]
    generator = load_generator(context.store.folder("gans", context.gan_id), gan, 6)
    drawn = np.empty_like(images)
    drawn[order] = np.concatenate(list(draw_numbers(generator, gan, 6, seed, numbers[order])))
    assert not np.array_equal(drawn, images)
    assert np.array_equal(as_drawn(context, bank, np.arange(len(labels))), drawn)
    told = read_json(bank / MANIFEST)["summary"]["diversity"]
    real, size = context.real, images.shape[-1]
    of_real = diversity(resize(context.images.images[real], size).numpy(), context.images.labels[real], 6)
    shares = [own / of for own, of in zip(diversity(drawn, labels, 6), of_real, strict=True)]
    assert list(told.values()) == pytest.approx(shares, abs=1e-4)


def test_one_real_image_a_class_has_no_spread_to_hold_against(tiny: Compose) -> None:
    overrides = ["real_per_class=1", "gan.updates=1"]
    train_gan(prepare(tiny("train_gan", *overrides)))
    context = prepare(tiny("synthesize", *overrides))
    summary = context.store.manifest("banks", synthesize(context))["summary"]
    assert set(summary["diversity"].values()) == {None} and summary["collapsed"] == []
