"""Generator and discriminator of EDCGAN (paper: Table 1), their sizes derived from the image size."""

import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from steeldefect.gan.layers import ADropout, activation, critical_gain, initialise

START = 4  # pixels a side of the first map of G and the last of D (paper: section 4.2)


def stages(image_size: int) -> int:
    """Doublings from 4x4 to the image: 6 at 256 px, as in Table 1."""
    return (image_size // START).bit_length() - 1


class Generator(nn.Module):
    """z (and the class) to an image: linear to 4x4, then 3x3/2 deconvolutions up to the image size, tanh.

    `forward(z, labels)`: `(N, latent_dim)` float and `(N,)` int64 to `(N, 1, S, S)` in [-1, 1]. With `classes`=0
    the labels are not looked at. Channels: `base_channels` at half the image size, doubling down to 4x4.
    """

    def __init__(self, image_size: int, latent_dim: int, classes: int, options: Mapping[str, Any]) -> None:
        super().__init__()
        n = stages(image_size)
        widths = [options["base_channels"] * 2**i for i in reversed(range(n))]
        self.start = widths[0]
        self.embedding = nn.Embedding(classes, latent_dim) if classes else None
        self.linear = nn.Linear(latent_dim * (2 if classes else 1), self.start * START**2)
        layers: list[nn.Module] = [*self._after(self.start, options)]
        for wide, narrow in itertools.pairwise(widths):
            layers += [self._deconvolution(wide, narrow, options["kernel"]), *self._after(narrow, options)]
        layers += [self._deconvolution(widths[-1], 1, options["kernel"]), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        initialise(self, options["init"], critical_gain(1.0))
        if self.embedding is not None:
            # weak beside z ~ N(0, 1): with both equally strong, trained generators drew one image a class
            nn.init.normal_(self.embedding.weight, 0.0, options["embedding_std"])

    @staticmethod
    def _after(channels: int, options: Mapping[str, Any]) -> list[nn.Module]:
        norm = [nn.BatchNorm2d(channels)] if options["norm"] == "batch" else []
        return [*norm, activation(options["activation"])]

    @staticmethod
    def _deconvolution(wide: int, narrow: int, kernel: int) -> nn.ConvTranspose2d:
        return nn.ConvTranspose2d(wide, narrow, kernel, stride=2, padding=1, output_padding=4 - kernel)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        if self.embedding is not None:
            z = torch.cat([z, self.embedding(labels).to(z.dtype)], dim=1)
        x = self.linear(z).view(len(z), self.start, START, START)
        return self.layers(x.contiguous(memory_format=torch.channels_last))


class Discriminator(nn.Module):
    """An image (and its class) to one logit: 3x3/2 convolutions with ELU and a-dropout down to 4x4, linear head.

    `forward(images, labels)`: `(N, 1, S, S)` in [-1, 1] and `(N,)` int64 to `(N,)`. With `classes` > 0 the class
    enters by projection: logit = w.h + e(label).h over the flattened last map h.
    """

    def __init__(self, image_size: int, classes: int, options: Mapping[str, Any]) -> None:
        super().__init__()
        n, alpha = stages(image_size), options["elu_alpha"]
        widths = [1, *(options["base_channels"] * 2**i for i in range(n))]
        layers: list[nn.Module] = []
        for i, (narrow, wide) in enumerate(itertools.pairwise(widths)):
            layers.append(nn.Conv2d(narrow, wide, options["kernel"], stride=2, padding=1))
            if options["norm"] == "batch" and i > 0:
                layers.append(nn.BatchNorm2d(wide))
            layers.append(activation(options["activation"], alpha))
            if options["keep_probability"] < 1 and i < n - 1:
                layers.append(ADropout(options["keep_probability"], alpha))
        self.layers = nn.Sequential(*layers)
        features = widths[-1] * START**2
        self.head = nn.Linear(features, 1)
        self.embedding = nn.Embedding(classes, features) if classes else None
        initialise(self.layers, options["init"], critical_gain(alpha))
        initialise(self.head, options["init"])
        if self.embedding is not None:
            # D starts unconditional; what the classes differ in is learnt
            nn.init.zeros_(self.embedding.weight)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        # in NCHW order, so that the weights of the head do not depend on the memory format
        h = self.layers(images).flatten(1)
        logits = self.head(h).squeeze(1)
        if self.embedding is not None:
            logits = logits + (self.embedding(labels).to(h.dtype) * h).sum(1)
        return logits


class PerClass(nn.ModuleList):
    """One unconditional network a class (`conditioning=per_class`); a batch must hold one class."""

    def of(self, label: int) -> nn.Module:
        return self[label]


def build_generator(gan: Mapping[str, Any], classes: int) -> Generator | PerClass:
    size, latent, options = gan["image_size"], gan["latent_dim"], gan["generator"]
    if gan["conditioning"] == "conditional":
        return Generator(size, latent, classes, options)
    return PerClass(Generator(size, latent, 0, options) for _ in range(classes))


def build_discriminator(gan: Mapping[str, Any], classes: int) -> Discriminator | PerClass:
    size, options = gan["image_size"], gan["discriminator"]
    if gan["conditioning"] == "conditional":
        return Discriminator(size, classes, options)
    return PerClass(Discriminator(size, 0, options) for _ in range(classes))
