"""The classifiers of the paper's Table 3, by name (section 4.3), and some beside them."""

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock

from steeldefect.classify.efficientnet import efficientnet_classifier
from steeldefect.runs.errors import UserError, nearest


class GrayAsRgb(nn.Module):
    """torchvision's networks expect three channels: the gray one, `(N, 1, H, W)`, is shown three times."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last))


class AveragePool(nn.Module):
    """What `nn.AdaptiveAvgPool2d(side)` gives, whose gradient is not deterministic on CUDA, so that torch refuses it.

    `(N, C, H, W)` to `(N, C, side, side)` of the same dtype: sums as products with zeros and ones, then means.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, maps: Tensor) -> Tensor:
        if maps.shape[-2:] == (self.side, self.side):
            return maps
        rows, columns = (self._within(n, maps) for n in maps.shape[-2:])
        sums = rows @ maps @ columns.T
        return (sums / (rows.sum(1)[:, None] * columns.sum(1))).to(maps.dtype)

    def _within(self, n: int, maps: Tensor) -> Tensor:
        """`(side, n)`: 1 where one of the n places of a map lies within a place of the result, else 0."""
        device = maps.device
        number = torch.arange(self.side, device=device)[:, None]
        start, end = number * n // self.side, -(-(number + 1) * n // self.side)
        places = torch.arange(n, device=device)
        return ((places >= start) & (places < end)).to(maps.dtype)


class ResNet19(nn.Module):
    """ResNet-19: ImageNet stem, [3, 3, 2] basic blocks at 128, 256, 512 channels, two linear layers.

    `(N, 1, H, W)` to logits `(N, classes)`; 1 + 16 + 2 weighted layers, shortcuts aside.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 128, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.blocks = nn.Sequential(
            *self._stage(128, 128, 3, 1), *self._stage(128, 256, 3, 2), *self._stage(256, 512, 2, 2)
        )
        self.head = nn.Sequential(nn.Linear(512, 256), nn.ReLU(inplace=True), nn.Linear(256, classes))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    @staticmethod
    def _stage(channels: int, out: int, blocks: int, stride: int) -> list[nn.Module]:
        down = None
        if stride != 1 or channels != out:
            down = nn.Sequential(nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out))
        return [BasicBlock(channels, out, stride, down), *(BasicBlock(out, out) for _ in range(blocks - 1))]

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(images)).mean(dim=(2, 3)))


class SmallCnn(nn.Module):
    """A reconstruction of the small CNN of Zhou et al. 2017 (paper: [32]); its layer table is not to be had.

    `(N, 1, H, W)`, resized to 40x40 with antialiasing as its secondary descriptions say, two stages of 5x5
    convolution, ReLU and 2x2 pooling, one hidden linear layer.
    """

    SIDE = 40

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        )
        hidden = 64 * (self.SIDE // 4) ** 2
        self.head = nn.Sequential(nn.Linear(hidden, 256), nn.ReLU(inplace=True), nn.Linear(256, classes))

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[-1] != self.SIDE:
            images = F.interpolate(images.float(), (self.SIDE, self.SIDE), mode="bilinear", antialias=True)
        return self.head(self.features(images).flatten(1))


def _mobilenet_v2(classes: int, options: Mapping[str, Any]) -> nn.Module:
    network = torchvision.models.mobilenet_v2(num_classes=classes, width_mult=options["width"])
    if 32 < options.get("image_size", 0) <= 64:
        # the last three depthwise convolutions see maps of 2x2, where oneDNN takes 16 times as long for the gradients if it
        # lays the zeros around itself (a training step on two cores with AVX2: 0.35 s for 0.24 s)
        for layer in network.features[15:18].modules():
            if isinstance(layer, nn.Conv2d) and layer.groups > 1:
                layer.padding_mode = "constant"  # type: ignore[assignment]  # what F.pad calls zeros
    return GrayAsRgb(network)


def _vgg(name: str) -> Callable[[int, Mapping[str, Any]], nn.Module]:
    def build(classes: int, options: Mapping[str, Any]) -> nn.Module:
        network = getattr(torchvision.models, name)(num_classes=classes)
        network.avgpool = AveragePool(7)
        return GrayAsRgb(network)

    return build


BACKBONES: dict[str, Callable[[int, Mapping[str, Any]], nn.Module]] = {
    "mobilenet_v2": _mobilenet_v2,
    "vgg16": _vgg("vgg16"),
    "vgg16_bn": _vgg("vgg16_bn"),
    "resnet18": lambda classes, options: GrayAsRgb(torchvision.models.resnet18(num_classes=classes)),
    "resnet19": lambda classes, options: ResNet19(classes),
    "small_cnn": lambda classes, options: SmallCnn(classes),
    "efficientnet_lite0": lambda classes, options: GrayAsRgb(efficientnet_classifier(classes, options["pretrained"])),
}


def build_classifier(classifier: Mapping[str, Any], classes: int) -> nn.Module:
    """The network of the config group `classifier`, from scratch or from the local file `classifier.weights`."""
    name = classifier["name"]
    if name not in BACKBONES:
        raise UserError(f"classifier.name={name}: {nearest(name, BACKBONES)}")
    network = BACKBONES[name](classes, classifier)
    if classifier["weights"]:
        _load(network, Path(classifier["weights"]))
    return network.to(memory_format=torch.channels_last)


def _load(network: nn.Module, path: Path) -> None:
    """Weights by name and shape; a head for another number of classes is left as it was drawn."""
    try:
        given = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"classifier.weights={path}: not a file of weights ({reason})") from None
    own = network.state_dict()
    prefix = "network." if isinstance(network, GrayAsRgb) else ""
    renamed = {name if name in own else prefix + name: value for name, value in given.items()}
    fitting = {name: value for name, value in renamed.items() if name in own and own[name].shape == value.shape}
    if len(fitting) < len(own) / 2:
        raise UserError(
            f"classifier.weights={path}: fits {len(fitting)} of {len(own)} tensors; is it another network's?"
        )
    network.load_state_dict(fitting, strict=False)
