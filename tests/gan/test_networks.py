import pytest
import torch
from torch import nn

from steeldefect.gan.layers import ConditionalBatchNorm2d, MinibatchStd, Noise, ResizeConvolution
from steeldefect.gan.networks import Discriminator, build_discriminator, build_generator, latent_size
from tests.conftest import Compose


def test_shapes_of_table_1_at_256_px(composed: Compose) -> None:
    gan = composed("train_gan", "scale=paper").gan
    seen: list[tuple[int, ...]] = []
    generator, discriminator = build_generator(gan, 6), build_discriminator(gan, 6)
    for network, kind in ((generator, nn.ConvTranspose2d), (discriminator, nn.Conv2d)):
        for layer in network.modules():
            if isinstance(layer, kind):
                layer.register_forward_hook(lambda _, inputs, out: seen.append((*out.shape[2:], out.shape[1])))
                assert layer.kernel_size == (3, 3) and layer.stride == (2, 2)
    labels = torch.tensor([0, 5])
    images = generator(torch.randn(2, 100), labels)
    assert generator.linear.out_features == 4 * 4 * 1024
    assert seen == [(8, 8, 512), (16, 16, 256), (32, 32, 128), (64, 64, 64), (128, 128, 32), (256, 256, 1)]
    seen.clear()
    assert discriminator(images, labels).shape == (2,)
    # Table 1 prints the inputs of C1..C6: 256, 128x32, 64x64, 32x128, 16x256, 8x512
    assert seen == [(128, 128, 32), (64, 64, 64), (32, 32, 128), (16, 16, 256), (8, 8, 512), (4, 4, 1024)]


@pytest.mark.parametrize("size", [16, 64])
@pytest.mark.parametrize("name", ["edcgan", "dcgan", "edcgan_plus"])
@pytest.mark.parametrize("conditioning", ["conditional", "per_class"])
def test_networks_follow_the_image_size(composed: Compose, size: int, name: str, conditioning: str) -> None:
    gan = composed("train_gan", f"gan={name}", f"gan.image_size={size}", f"gan.conditioning={conditioning}").gan
    generator, discriminator = build_generator(gan, 3), build_discriminator(gan, 3)
    if conditioning == "per_class":
        assert len(generator) == len(discriminator) == 3
        generator, discriminator = generator[1], discriminator[1]
    labels = torch.ones(4, dtype=torch.int64)
    images = generator(torch.randn(4, latent_size(gan)), labels)
    assert images.shape == (4, 1, size, size)
    assert any(isinstance(layer, ResizeConvolution) for layer in generator.modules()) == (name == "edcgan_plus")
    assert images.abs().max() <= 1
    assert discriminator(images, labels).shape == (4,)


def test_critical_init_keeps_d_awake_and_normal_init_does_not(composed: Compose) -> None:
    """The logits of images of unit variance: of order one with the critical init, next to nothing with N(0, 0.02)."""
    images = torch.randn(64, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(64, dtype=torch.int64)
    spread = {}
    for init in ("critical", "normal"):
        torch.manual_seed(0)
        gan = composed("train_gan", "gan.image_size=64", f"gan.discriminator.init={init}").gan
        spread[init] = build_discriminator(gan, 0 + 6).eval()(images, labels).std().item()
    assert 0.3 < spread["critical"] < 3
    assert spread["normal"] < 0.03 * spread["critical"]


def test_class_reaches_generator_and_discriminator(composed: Compose) -> None:
    gan = composed("train_gan", "gan.image_size=16").gan
    generator, discriminator = build_generator(gan, 2).eval(), build_discriminator(gan, 2).eval()
    z, first, second = torch.randn(3, 100), torch.zeros(3, dtype=torch.int64), torch.ones(3, dtype=torch.int64)
    assert not torch.equal(generator(z, first), generator(z, second))
    image = torch.rand(3, 1, 16, 16)
    # the projection starts at nothing and is learnt
    assert torch.equal(discriminator(image, first), discriminator(image, second))
    nn.init.normal_(discriminator.embedding.weight)
    assert not torch.equal(discriminator(image, first), discriminator(image, second))


def test_a_dropout_sits_after_every_elu_but_the_last(composed: Compose) -> None:
    discriminator = build_discriminator(composed("train_gan", "gan.image_size=64").gan, 6)
    assert isinstance(discriminator, Discriminator)
    kinds = [type(layer).__name__ for layer in discriminator.layers]
    assert kinds == ["Conv2d", "ELU", "ADropout"] * 3 + ["Conv2d", "ELU"]


def test_z_moves_the_image_more_than_the_class_does_at_the_start(composed: Compose) -> None:
    """An embedding as strong as z made generators draw one image a class (spread within a class 3 of 37 gray levels)."""
    spread = {}
    labels = torch.arange(6).repeat_interleave(20)
    for std in (0.1, 1.0):
        torch.manual_seed(0)
        gan = composed("train_gan", "gan.image_size=16", f"gan.generator.embedding_std={std}").gan
        with torch.no_grad():
            images = build_generator(gan, 6)(torch.randn(120, 100), labels).reshape(6, 20, -1)
        spread[std] = (images.std(1).mean() / images.mean(1).std(0).mean()).item()
    assert spread[0.1] > 3 and spread[0.1] > 2 * spread[1.0]


def test_class_enters_the_normalisation_of_edcgan_plus_and_z_moves_the_image_more(composed: Compose) -> None:
    torch.manual_seed(0)
    gan = composed("train_gan", "gan=edcgan_plus", "gan.image_size=16").gan
    generator = build_generator(gan, 6)
    assert generator.embedding is None
    assert [layer.scale.num_embeddings for layer in generator.layers if isinstance(layer, ConditionalBatchNorm2d)] == [
        6,
        6,
    ]
    z, labels = torch.randn(120, latent_size(gan)), torch.arange(6).repeat_interleave(20)
    with torch.no_grad():
        images = generator(z, labels).reshape(6, 20, -1)
        assert not torch.equal(generator.eval()(z[:1], labels[:1]), generator(z[:1], labels[-1:]))
    assert images.std(1).mean() > 2 * images.mean(1).std(0).mean()


def test_minibatch_std_joins_the_last_convolution_and_parts_real_from_fake(composed: Compose) -> None:
    for name, one_pass in (
        ("edcgan", True),
        ("edcgan_plus", True),
        ("edcgan_plus-plus_minibatch_std", False),
        ("dcgan", False),
    ):
        discriminator = build_discriminator(composed("train_gan", f"gan={name}", "gan.image_size=16").gan, 6)
        assert discriminator.one_pass == one_pass
    gan = composed("train_gan", "gan=edcgan_plus-plus_minibatch_std", "gan.image_size=64").gan
    layers = list(build_discriminator(gan, 6).layers)
    place = next(i for i, layer in enumerate(layers) if isinstance(layer, MinibatchStd))
    assert layers[place + 1].in_channels == 129
    assert not any(isinstance(layer, nn.Conv2d) for layer in layers[place + 2 :])


def test_spectral_norm_holds_the_largest_singular_value_at_one(composed: Compose) -> None:
    torch.manual_seed(0)
    largest = {}
    for wanted in ("true", "false"):
        overrides = ["gan=edcgan_plus", "gan.image_size=16", f"gan.discriminator.spectral_norm={wanted}"]
        discriminator = build_discriminator(composed("train_gan", *overrides).gan, 6).train()
        for _ in range(30):  # a power iteration each
            discriminator(torch.randn(4, 1, 16, 16), torch.zeros(4, dtype=torch.int64))
        weights = [layer.weight for layer in discriminator.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        largest[wanted] = [torch.linalg.matrix_norm(weight.flatten(1), 2).item() for weight in weights]
    assert largest["true"] == pytest.approx([1.0] * 3, abs=0.05)
    assert max(largest["false"]) > 1.5


def test_input_gain_stretches_the_images_in_front_of_d(composed: Compose) -> None:
    images, labels = torch.rand(2, 1, 16, 16), torch.zeros(2, dtype=torch.int64)
    logits = []
    for gain, seen in ((1.0, 4 * images), (4.0, images)):
        torch.manual_seed(0)
        gan = composed("train_gan", "gan.image_size=16", f"gan.discriminator.input_gain={gain}").gan
        logits.append(build_discriminator(gan, 6).eval()(seen, labels))
    assert torch.equal(logits[0], logits[1])


def test_noise_is_drawn_with_z_and_moves_the_grain_alone(composed: Compose) -> None:
    gan = composed("train_gan", "gan=edcgan_plus", "gan.image_size=32").gan
    assert latent_size(gan) == 100 + 8**2 + 16**2
    assert latent_size(composed("train_gan", "gan=edcgan", "gan.image_size=32").gan) == 100
    generator = build_generator(gan, 3).eval()
    layers = [layer for layer in generator.layers if isinstance(layer, Noise)]
    assert [(layer.side, layer.first) for layer in layers] == [(8, 0), (16, 64)]
    z, labels = torch.randn(2, latent_size(gan)), torch.tensor([0, 1])
    other = torch.cat([z[:, :100], torch.randn(2, 320)], 1)
    assert torch.equal(generator(z, labels), generator(other, labels))
    for layer in layers:
        nn.init.normal_(layer.weight)
    assert not torch.equal(generator(z, labels), generator(other, labels))
    torch.testing.assert_close(generator(z, labels)[:1], generator(z[:1], labels[:1]))


def test_d_sees_the_detail_beside_the_mean(composed: Compose) -> None:
    """A faint grain moves the logits more than an equal change of light does, and without `detail_gain` much less."""
    grain = 0.02 * (-1.0) ** torch.arange(16).add(torch.arange(16)[:, None])
    moved = {}
    for gain in (24.0, 0.0):
        torch.manual_seed(0)
        gan = composed("train_gan", "gan=edcgan_plus", "gan.image_size=16", f"gan.discriminator.detail_gain={gain}").gan
        discriminator = build_discriminator(gan, 3)
        images, labels = torch.zeros(1, 1, 16, 16), torch.zeros(1, dtype=torch.int64)
        base = discriminator(images, labels)
        moved[gain] = [abs((discriminator(images + change, labels) - base).item()) for change in (grain, 0.02)]
    assert moved[24.0][0] > 3 * moved[24.0][1] and moved[24.0][0] > 3 * moved[0.0][0]
