import pytest
import torch

from steeldefect.gan.augment import POLICIES, Shifted, augment
from steeldefect.gan.module import judge
from steeldefect.runs import settings

NAMES = sorted(POLICIES)


def images(n: int = 64, side: int = 16) -> torch.Tensor:
    """One textured image, n times, so that what differs afterwards is what was drawn for each."""
    one = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return one.expand(n, -1, -1, -1).clone()


def test_the_policies_are_those_that_the_config_may_name() -> None:
    assert set(settings.POLICIES) == set(POLICIES)


@pytest.mark.parametrize("name", NAMES)
def test_every_image_draws_its_own_transform_and_passes_its_gradient(name: str) -> None:
    torch.manual_seed(0)
    x = images().requires_grad_()
    y = augment(x, [name])
    assert y.shape == x.shape and y.dtype == torch.float32
    different = {tuple(one.flatten().tolist()) for one in y}
    assert len(different) == 4 if name == "flip" else len(different) > 20
    (gradient,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    assert (gradient.flatten(1).abs().sum(1) > 0).all()
    # R1 differentiates through the augmentation once more
    gradient.square().sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


def test_no_policy_leaves_images_and_random_state_as_they_are() -> None:
    x, state = images().bfloat16(), torch.get_rng_state()
    assert augment(x, []) is x
    assert torch.equal(torch.get_rng_state(), state)


def test_translation_moves_by_whole_pixels_and_lets_gray_in() -> None:
    torch.manual_seed(0)
    x = images(200)
    y = augment(x, ["translation"])
    seen = set()
    for before, after in zip(x[:, 0], y[:, 0], strict=True):
        found = [
            (dy, dx)
            for dy in range(-2, 3)
            for dx in range(-2, 3)
            if torch.equal(after[max(0, dy) : 16 + min(0, dy), max(0, dx) : 16 + min(0, dx)], shifted(before, dy, dx))
            and after.count_nonzero() == (16 - abs(dy)) * (16 - abs(dx))
        ]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) == 25  # up to an eighth of 16 pixels, either way


@pytest.mark.parametrize("dim", [2, 3])
def test_the_gradient_of_a_shift_is_the_shift_back_twice_over(dim: int) -> None:
    shift = torch.tensor([[2], [-1], [0], [3]])
    x = torch.rand(4, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: Shifted.apply(x, shift, dim), x)
    assert torch.autograd.gradgradcheck(lambda x: Shifted.apply(x, shift, dim).square(), x)


def shifted(image: torch.Tensor, dy: int, dx: int) -> torch.Tensor:
    return image[max(0, -dy) : 16 + min(0, -dy), max(0, -dx) : 16 + min(0, -dx)]


def test_cutout_hides_one_square_of_half_the_side() -> None:
    torch.manual_seed(0)
    hidden = (augment(images(200), ["cutout"]) == 0).squeeze(1)
    rows, columns = hidden.any(2).sum(1), hidden.any(1).sum(1)
    assert torch.equal(hidden.sum((1, 2)), rows * columns)
    assert rows.max() == columns.max() == 8 and rows.min() >= 4


def test_brightness_and_contrast_stay_within_their_strengths() -> None:
    torch.manual_seed(0)
    x = images(500)
    moved = (augment(x, ["brightness"]) - x).flatten(1)
    assert moved.std(1).max() < 1e-6 and -0.5 <= moved.min() < -0.4 and 0.4 < moved.max() <= 0.5
    stretched = augment(x, ["contrast"]).flatten(1)
    assert torch.allclose(stretched.mean(1), x.flatten(1).mean(1), atol=1e-6)
    factor = stretched.std(1) / x.flatten(1).std(1)
    assert 0.5 <= factor.min() < 0.55 and 1.45 < factor.max() <= 1.5


@pytest.mark.parametrize("one_pass", [True, False])
def test_real_and_fake_get_the_same_kinds(one_pass: bool) -> None:
    """The discriminator keeps what it is shown: mid-gray squares in both halves, and never the same one."""
    shown: list[torch.Tensor] = []

    class Watcher(torch.nn.Module):
        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            shown.append(x)
            return x.sum((1, 2, 3))

    watcher = Watcher()
    watcher.one_pass = one_pass
    torch.manual_seed(0)
    real_logits, fake_logits, _ = judge(watcher, images(8), images(8), torch.zeros(8, dtype=torch.int64), ("cutout",))
    assert len(real_logits) == len(fake_logits) == 8
    real, fake = torch.cat(shown).chunk(2)
    assert ((real == 0).flatten(1).any(1)).all() and ((fake == 0).flatten(1).any(1)).all()
    assert not torch.equal(real, fake)
