import numpy as np
import pytest
import torch
from PIL import Image

from steeldefect.data.bank import diversity, export_png, labels_in_turn, pick, read_bank, write_bank
from steeldefect.gan.networks import build_generator
from steeldefect.gan.sampling import draw, latents
from steeldefect.runs.errors import UserError
from steeldefect.runs.store import write_json
from tests.conftest import Compose

CLASSES = ("a", "b", "c")


@pytest.mark.parametrize("conditioning", ["conditional", "per_class"])
def test_an_image_drawn_alone_has_the_bytes_it_has_in_the_bank(composed: Compose, tmp_path, conditioning: str) -> None:
    gan = composed("train_gan", "gan.image_size=16", f"gan.conditioning={conditioning}").gan
    torch.manual_seed(0)
    generator = build_generator(gan, 3).eval()
    write_bank(tmp_path, draw(generator, gan, 3, 7, 0, 150), labels_in_turn(150, 3), CLASSES, 16)
    write_json(tmp_path / "manifest.json", {"identity": {"split": "s"}})
    images, labels = read_bank(tmp_path, "s")
    assert images.shape == (150, 16, 16) and images.dtype == np.uint8 and isinstance(images, np.memmap)
    for k in (0, 63, 64, 100, 149):
        (alone,) = draw(generator, gan, 3, 7, k, 1)
        assert np.array_equal(alone[0], images[k])
        assert labels[k] == k % 3
    assert not np.array_equal(next(iter(draw(generator, gan, 3, 8, 0, 1)))[0], images[0])


def test_latents_are_standard_normal_and_each_image_has_its_own() -> None:
    z = latents(0, range(2000), 100)
    assert z.mean().abs() < 0.01 and (z.std() - 1).abs() < 0.01
    assert torch.equal(z[17], latents(0, [17], 100)[0])
    assert not torch.equal(z[17], latents(1, [17], 100)[0])


def test_a_bank_of_another_split_is_refused(tmp_path) -> None:
    write_bank(tmp_path, [np.zeros((6, 8, 8), np.uint8)], labels_in_turn(6, 3), CLASSES, 8)
    write_json(tmp_path / "manifest.json", {"identity": {"split": "one"}})
    with pytest.raises(UserError, match="stands on split one, this cell on other"):
        read_bank(tmp_path, "other")


def test_picks_are_the_first_of_each_class_and_nested() -> None:
    labels = np.arange(30) % 3
    small, large = pick(labels, [1, 2, 3], CLASSES), pick(labels, [4, 4, 4], CLASSES)
    assert small.tolist() == [0, 1, 2, 4, 5, 8]
    assert set(small) < set(large)
    with pytest.raises(UserError, match=r"bank\.count: the mix wants 11 images of b, the bank holds 10"):
        pick(labels, [1, 11, 1], CLASSES)


def test_export_writes_a_folder_a_class(tmp_path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8), dtype=np.uint8)
    write_bank(tmp_path, [images], labels_in_turn(6, 3), CLASSES, 8)
    export_png(tmp_path, tmp_path / "out", CLASSES)
    files = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png"))
    assert files == ["a/000000.png", "a/000003.png", "b/000001.png", "b/000004.png", "c/000002.png", "c/000005.png"]
    with Image.open(tmp_path / "out" / "b" / "000004.png") as picture:
        assert np.array_equal(np.asarray(picture), images[4])


def test_diversity_is_the_spread_within_a_class() -> None:
    rng = np.random.default_rng(0)
    varied = rng.integers(0, 256, (60, 8, 8), dtype=np.uint8)
    labels = np.arange(60) % 3
    collapsed = varied[labels]  # every image of a class is the same one
    assert diversity(collapsed, labels, 3) == [0, 0, 0]
    assert all(60 < spread < 85 for spread in diversity(varied, labels, 3))  # 73.9 for uniform gray levels
    assert diversity(varied[:2], labels[:2], 3)[2] == 0
