"""Generator and discriminator of EDCGAN (paper: Table 1), their sizes derived from the image size."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from steeldefect.classify.efficientnet import efficientnet_lite0
from steeldefect.gan.layers import (
    ADropout,
    ConditionalBatchNorm2d,
    Deconvolution,
    Detail,
    Labelled,
    MinibatchStd,
    Noise,
    ResizeConvolution,
    activation,
    critical_gain,
    initialise,
)
from steeldefect.gan.projected import FrozenFeatures, ProjectedDiscriminator

START = 4  # pixels a side of the first map of G and the last of D (paper: section 4.2)


def stages(image_size: int) -> int:
    """Doublings from 4x4 to the image: 6 at 256 px, as in Table 1."""
    return (image_size // START).bit_length() - 1


def latent_size(gan: Mapping[str, Any]) -> int:
    """Numbers that make an image: `latent_dim`, and with `generator.noise` a map at each size between 4x4 and the image."""
    sides = [START * 2**i for i in range(1, stages(gan["image_size"]))]
    return int(gan["latent_dim"]) + (sum(side**2 for side in sides) if gan["generator"]["noise"] else 0)


class Generator(nn.Module):
    """z (and the class) to an image: linear to 4x4, then 3x3/2 deconvolutions up to the image size, tanh.

    `forward(z, labels)`: `(N, latent_size)` float and `(N,)` int64 to `(N, 1, S, S)` in [-1, 1]. With `classes`=0
    the labels are not looked at. Channels: `base_channels` at half the image size, doubling down to 4x4. The class
    enters by an embedding joined to z (`class_input=concat`) or by the scales and shifts of BN (`conditional_norm`).
    """

    layout = torch.channels_last
    deconvolution: type[Deconvolution] = Deconvolution

    def __init__(self, image_size: int, latent_dim: int, classes: int, options: Mapping[str, Any]) -> None:
        super().__init__()
        n = stages(image_size)
        widths = [options["base_channels"] * 2**i for i in reversed(range(n))]
        self.start, self.latent_dim = widths[0], latent_dim
        joined, normed = (classes, 0) if options["class_input"] == "concat" else (0, classes)
        self.embedding = nn.Embedding(joined, latent_dim) if joined else None
        self.linear = nn.Linear(latent_dim * (2 if joined else 1), self.start * START**2)
        layers: list[nn.Module] = [*self._after(self.start, normed, options)]
        side, first = START, 0
        for wide, narrow in itertools.pairwise(widths):
            side *= 2
            layers.append(self._doubling(wide, narrow, options))
            if options["noise"]:
                layers.append(Noise(narrow, side, first))
                first += side**2
            layers += self._after(narrow, normed, options)
        layers += [self._doubling(widths[-1], 1, options), nn.Tanh()]
        self.layers = Labelled(layers)
        initialise(self, options["init"], critical_gain(1.0))
        if self.embedding is not None:
            # weak beside z ~ N(0, 1): with both equally strong, trained generators drew one image a class
            nn.init.normal_(self.embedding.weight, 0.0, options["embedding_std"])

    @staticmethod
    def _after(channels: int, classes: int, options: Mapping[str, Any]) -> Iterator[nn.Module]:
        if options["norm"] == "batch" and classes:
            yield ConditionalBatchNorm2d(channels, classes, options["embedding_std"])
        elif options["norm"] == "batch":
            yield nn.BatchNorm2d(channels)
        yield activation(options["activation"])

    @classmethod
    def _doubling(cls, wide: int, narrow: int, options: Mapping[str, Any]) -> nn.Module:
        if options["upsampling"] == "resize":
            return ResizeConvolution(wide, narrow)
        return cls.deconvolution(wide, narrow, options["kernel"])

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        z, noise = z[:, : self.latent_dim], z[:, self.latent_dim :]
        if self.embedding is not None:
            z = torch.cat([z, self.embedding(labels).to(z.dtype)], dim=1)
        x = self.linear(z).view(len(z), self.start, START, START)
        return self.layers(x.contiguous(memory_format=self.layout), labels, noise)


class Discriminator(nn.Module):
    """An image (and its class) to one logit: 3x3/2 convolutions with ELU and a-dropout down to 4x4, linear head.

    `forward(images, labels)`: `(N, 1, S, S)` in [-1, 1] and `(N,)` int64 to `(N,)`. With `classes` > 0 the class
    enters by projection: logit = w.h + e(label).h over the flattened last map h. `minibatch_std` joins the spread of
    the batch to the input of the last convolution. `wrong` `(M,)` int64: the logits of the first M images under these
    labels as well, behind the others, at the cost of the projection alone.
    """

    def __init__(self, image_size: int, classes: int, options: Mapping[str, Any]) -> None:
        super().__init__()
        n, alpha = stages(image_size), options["elu_alpha"]
        self.input_gain = options["input_gain"]
        self.detail = Detail(options["input_gain"], options["detail_gain"]) if options["detail_gain"] else None
        # one pass over real and fake together is cheaper, but no statistic of a batch may mix them
        self.one_pass = options["norm"] == "none" and not options["minibatch_std"]
        widths = [1 if self.detail is None else 2, *(options["base_channels"] * 2**i for i in range(n))]
        layers: list[nn.Module] = []
        for i, (narrow, wide) in enumerate(itertools.pairwise(widths)):
            joined = int(options["minibatch_std"] and i == n - 1)
            if joined:
                layers.append(MinibatchStd(classes))
            layers.append(nn.Conv2d(narrow + joined, wide, options["kernel"], stride=2, padding=1))
            if options["norm"] == "batch" and i > 0:
                layers.append(nn.BatchNorm2d(wide))
            layers.append(activation(options["activation"], alpha))
            if options["keep_probability"] < 1 and i < n - 1:
                layers.append(ADropout(options["keep_probability"], alpha))
        self.layers = Labelled(layers)
        features = widths[-1] * START**2
        self.head = nn.Linear(features, 1)
        self.embedding = nn.Embedding(classes, features) if classes else None
        initialise(self.layers, options["init"], critical_gain(alpha))
        initialise(self.head, options["init"])
        if self.embedding is not None:
            # D starts unconditional; what the classes differ in is learnt
            nn.init.zeros_(self.embedding.weight)
        if options["spectral_norm"]:
            for layer in (*self.layers, self.head):
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    spectral_norm(layer)

    def forward(self, images: Tensor, labels: Tensor, wrong: Tensor | None = None) -> Tensor:
        # in NCHW order, so that the weights of the head do not depend on the memory format
        seen = images * self.input_gain if self.detail is None else self.detail(images)
        h = self.layers(seen, labels).flatten(1)
        if wrong is not None:
            h, labels = torch.cat([h, h[: len(wrong)]]), torch.cat([labels, wrong])
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


def build_discriminator(gan: Mapping[str, Any], classes: int) -> Discriminator | ProjectedDiscriminator | PerClass:
    size, options = gan["image_size"], gan["discriminator"]
    if options["kind"] == "projected":
        features = FrozenFeatures(efficientnet_lite0("gan.discriminator.kind=projected"))  # shared by the classes
        if gan["conditioning"] == "conditional":
            return ProjectedDiscriminator(features, classes, options)
        return PerClass(ProjectedDiscriminator(features, 0, options) for _ in range(classes))
    if gan["conditioning"] == "conditional":
        return Discriminator(size, classes, options)
    return PerClass(Discriminator(size, 0, options) for _ in range(classes))
