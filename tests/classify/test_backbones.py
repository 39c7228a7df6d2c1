import pytest
import torch
import torchvision
from torch import nn

from steeldefect.classify.backbones import (
    BACKBONES,
    AveragePool,
    GrayAsRgb,
    ResNet19,
    SmallCnn,
    build_classifier,
)
from steeldefect.classify.efficientnet import efficientnet_lite0
from steeldefect.runs.errors import UserError
from tests.conftest import Compose


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_every_backbone_takes_gray_images_and_gives_logits(composed: Compose, name: str) -> None:
    options = composed("train_classifier", f"classifier={name}", "classifier.image_size=32").classifier
    # where nothing is computed: VGG has 138 million weights to draw
    with torch.inference_mode(), torch.device("meta" if name.startswith("vgg") else "cpu"):
        network = build_classifier(options, 6).eval()
        assert network(torch.rand(2, 1, 32, 32) * 2 - 1).shape == (2, 6)


def test_resnet19_has_nineteen_weighted_layers_of_the_given_widths() -> None:
    network = ResNet19(6)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)]
    linears = [m for m in network.modules() if isinstance(m, nn.Linear)]
    assert len(convolutions) + len(linears) == 19
    assert [c.out_channels for c in convolutions] == [128] * 7 + [256] * 6 + [512] * 4


def test_width_multiplier_narrows_mobilenet(composed: Compose) -> None:
    count = {
        width: sum(
            p.numel()
            for p in build_classifier(
                composed("train_classifier", f"classifier.width={width}").classifier, 6
            ).parameters()
        )
        for width in (0.5, 1.0)
    }
    assert count[0.5] < 0.5 * count[1.0]


def test_mobilenet_at_64_pixels_is_torchvision_s_whoever_lays_the_zeros_around(composed: Compose) -> None:
    options = composed("train_classifier", "classifier.image_size=64").classifier
    torch.manual_seed(0)
    ours = build_classifier(options, 6).network
    torch.manual_seed(0)
    theirs = torchvision.models.mobilenet_v2(num_classes=6).to(memory_format=torch.channels_last)
    padded = [m for m in ours.modules() if isinstance(m, nn.Conv2d) and m.padding_mode == "constant"]
    sizes = []
    for layer in padded:
        layer.register_forward_hook(lambda _, inputs, out: sizes.append((inputs[0].shape[2:], out.shape[2:])))
    images = torch.rand(4, 3, 64, 64)
    for network in (ours, theirs):
        torch.manual_seed(1)  # dropout
        network(images).square().sum().backward()
    assert sizes == [((2, 2), (2, 2))] * 3
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-5)


def test_vgg16_is_the_paper_s_without_batch_normalisation(composed: Compose) -> None:
    with torch.device("meta"):
        kinds = {
            name: {
                type(m)
                for m in build_classifier(composed("train_classifier", f"classifier={name}").classifier, 6).modules()
            }
            for name in ("vgg16", "vgg16_bn")
        }
    assert nn.BatchNorm2d not in kinds["vgg16"]
    assert nn.BatchNorm2d in kinds["vgg16_bn"]


@pytest.mark.parametrize(("height", "width"), [(2, 2), (7, 7), (8, 8), (5, 11)])
def test_average_pool_is_torch_s_with_its_gradient(height: int, width: int) -> None:
    ours = torch.randn(2, 3, height, width, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    weight = torch.randn(2, 3, 7, 7)
    pooled, expected = AveragePool(7)(ours), nn.AdaptiveAvgPool2d(7)(theirs)
    (pooled * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(pooled, expected)
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert AveragePool(7)(ours.bfloat16()).dtype == torch.bfloat16


def test_small_cnn_sees_forty_pixels() -> None:
    sizes = []
    network = SmallCnn(6)
    network.features[0].register_forward_hook(lambda _, inputs, out: sizes.append(inputs[0].shape[-1]))
    network(torch.rand(1, 1, 64, 64))
    assert sizes == [40]


def test_gray_is_shown_three_times() -> None:
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(GrayAsRgb(nn.Identity())(images), images.repeat(1, 3, 1, 1))


def test_weights_are_loaded_from_a_local_file_and_a_foreign_file_is_refused(composed: Compose, tmp_path) -> None:
    import torchvision

    source = torchvision.models.resnet18(num_classes=1000)
    torch.save(source.state_dict(), tmp_path / "resnet18.pt")
    options = composed(
        "train_classifier", "classifier=resnet18", f"classifier.weights={tmp_path / 'resnet18.pt'}"
    ).classifier
    network = build_classifier(options, 6)
    assert torch.equal(network.network.layer4[1].conv2.weight, source.layer4[1].conv2.weight)
    assert network.network.fc.out_features == 6
    options = composed(
        "train_classifier", "classifier=resnet19", f"classifier.weights={tmp_path / 'resnet18.pt'}"
    ).classifier
    with pytest.raises(UserError, match=r"resnet18\.pt: fits \d+ of"):
        build_classifier(options, 6)
    (tmp_path / "no.pt").write_text("no weights")
    options = composed("train_classifier", f"classifier.weights={tmp_path / 'no.pt'}").classifier
    with pytest.raises(UserError, match=r"no\.pt: not a file of weights"):
        build_classifier(options, 6)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'resnet18'"):
        build_classifier({"name": "resnet_18"}, 6)


def test_efficientnet_starts_from_imagenet_or_from_scratch(composed: Compose) -> None:
    own = {}
    for pretrained in (True, False):
        overrides = ("classifier=efficientnet_lite0", f"classifier.pretrained={str(pretrained).lower()}")
        options = composed("train_classifier", *overrides).classifier
        torch.manual_seed(0)
        own[pretrained] = build_classifier(options, 6).network.state_dict()
        torch.manual_seed(0)
        assert torch.equal(
            build_classifier(options, 6).network.state_dict()["_fc.weight"], own[pretrained]["_fc.weight"]
        )
    published = efficientnet_lite0("test").state_dict()
    body = [name for name in published if not name.startswith("_fc")]
    assert all(torch.equal(own[True][name], published[name]) for name in body)
    assert not torch.equal(own[False]["_conv_stem.weight"], published["_conv_stem.weight"])
    assert own[True]["_fc.weight"].shape == (6, 1280)
