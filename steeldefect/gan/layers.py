"""ELU statistics, the paper's a-dropout, the initialisation that keeps an ELU stack alive, and what edcgan_plus adds."""

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DETAIL_SIDE = 5  # pixels of the square over which `Detail` takes the mean


def elu_moments(alpha: float) -> tuple[float, float]:
    """Mean and variance of ELU(x) for x ~ N(0, 1), in closed form."""
    tail = math.exp(0.5) * _normal_cdf(-1)  # E[e^x; x < 0]
    mean = 1 / math.sqrt(2 * math.pi) + alpha * (tail - 0.5)
    square = 0.5 + alpha**2 * (math.exp(2) * _normal_cdf(-2) - 2 * tail + 0.5)
    return mean, square - mean**2


def critical_gain(alpha: float) -> float:
    """Gain at which a stack of ELU layers keeps the mean square of its pre-activations: 1.245 at alpha = 1."""
    mean, variance = elu_moments(alpha)
    return 1 / math.sqrt(variance + mean**2)


def _normal_cdf(x: float) -> float:
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


class ADropout(nn.Module):
    """The paper's a-dropout after an ELU (eqs. 6-8), a whole channel at a time.

    A dropped channel takes sigma = -alpha, the least value of ELU; then a x + b restores the mean mu and the
    variance nu that ELU has on N(0, 1): a = sqrt(nu / (q ((1 - q)(sigma - mu)^2 + nu))), b = mu - a (q mu + (1 - q)
    sigma), with q the probability to keep. The textbook constants assume mu = 0 and nu = 1. `(N, C, H, W)` in and out;
    the identity in eval mode.
    """

    def __init__(self, keep_probability: float, alpha: float = 1.0) -> None:
        super().__init__()
        if not 0 < keep_probability <= 1:
            raise ValueError(f"keep_probability={keep_probability}: must lie in (0, 1]")
        self.keep_probability = keep_probability
        self.sigma = -alpha
        q, (mu, nu) = keep_probability, elu_moments(alpha)
        self.scale = math.sqrt(nu / (q * ((1 - q) * (self.sigma - mu) ** 2 + nu)))
        self.shift = mu - self.scale * (q * mu + (1 - q) * self.sigma)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.keep_probability == 1:
            return x
        keep = torch.empty((*x.shape[:2], 1, 1), dtype=x.dtype, device=x.device).bernoulli_(self.keep_probability)
        return torch.addcmul(self.shift + self.scale * self.sigma * (1 - keep), x, self.scale * keep)

    def extra_repr(self) -> str:
        return f"keep_probability={self.keep_probability}, sigma={self.sigma}"


def _deconvolved(x: Tensor, weight: Tensor, bias: Tensor, output_padding: int = 0) -> Tensor:
    """Stride 2, padding 1. The bias goes behind it: inside, a CPU spends more on its gradient than on that of the weights."""
    y = F.conv_transpose2d(x, weight, None, stride=2, padding=1, output_padding=output_padding)
    return y.add_(bias.to(y.dtype)[:, None, None])


class Deconvolution(nn.ConvTranspose2d):
    """`(N, C, H, W)` to `(N, out, 2H, 2W)` (paper: Table 1, kernel 3); an odd kernel lays a row and a column on."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__(in_channels, out_channels, kernel, stride=2, padding=1, output_padding=4 - kernel)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        return _deconvolved(input, self.weight, cast(Tensor, self.bias), 4 - self.kernel_size[0])


class ResizeConvolution(nn.Conv2d):
    """Nearest-neighbour x2, then a 3x3 convolution: `(N, C, H, W)` to `(N, out, 2H, 2W)` without a checkerboard.

    Every pixel is made of equally many taps, so a flat map stays flat (Odena et al. 2016). Computed as the 4x4/2
    deconvolution that it equals, whose kernel is the 3x3 one summed over 2x2 windows: 4 taps a pixel in place of 9.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(self.weight.flip(2, 3), (1, 1, 1, 1))
        columns = padded[..., 1:] + padded[..., :-1]
        kernel = columns[..., 1:, :] + columns[..., :-1, :]
        return _deconvolved(x, kernel.transpose(0, 1), cast(Tensor, self.bias))


class ConditionalBatchNorm2d(nn.Module):
    """Batch normalisation with a scale and a shift of each class's own (de Vries et al. 2017).

    `(N, C, H, W)` and labels `(N,)` int64. `std` is the spread between the classes' scales (about 1) and shifts
    (about 0) at the start.
    """

    def __init__(self, channels: int, classes: int, std: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.scale, self.shift = nn.Embedding(classes, channels), nn.Embedding(classes, channels)
        nn.init.normal_(self.scale.weight, 1.0, std)
        nn.init.normal_(self.shift.weight, 0.0, std)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        # in the format of the maps: a float32 scale would lift them out of autocast
        scale, shift = self.scale(labels).to(x.dtype), self.shift(labels).to(x.dtype)
        return torch.addcmul(shift[:, :, None, None], scale[:, :, None, None], self.norm(x))


class Noise(nn.Module):
    """x + w n: a map of noise of its own for each image, weighted channel by channel (Karras et al. 2019, section 2).

    `(N, C, side, side)` and `noise` `(N, M)`, of which the layer takes `side`^2 values from `first` on. w is learnt from 0.
    """

    def __init__(self, channels: int, side: int, first: int) -> None:
        super().__init__()
        self.side, self.first = side, first
        self.weight = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        own = noise[:, self.first : self.first + self.side**2].view(len(x), 1, self.side, self.side)
        return torch.addcmul(x, self.weight.to(x.dtype)[:, None, None], own.to(x.dtype))


class Detail(nn.Module):
    """Two channels in place of one: the mean around each pixel, and what the pixel differs from it, much amplified.

    `(N, 1, S, S)` to `(N, 2, S, S)`. Light and shade have most of the variance of a photograph, so that without this its
    texture reaches a network far below the unit variance that initialisations assume.
    """

    def __init__(self, mean_gain: float, detail_gain: float) -> None:
        super().__init__()
        self.mean_gain, self.detail_gain = mean_gain, detail_gain

    def forward(self, images: Tensor) -> Tensor:
        reach = DETAIL_SIDE // 2
        mean = F.avg_pool2d(_mirrored(images, reach), DETAIL_SIDE, stride=1)
        both = torch.cat([self.mean_gain * mean, self.detail_gain * (images - mean)], 1)
        return both.contiguous(memory_format=torch.channels_last)


def _mirrored(images: Tensor, reach: int) -> Tensor:
    """What F.pad does with mode="reflect", whose gradient is not deterministic on CUDA, so that torch refuses it."""
    for dim in (2, 3):
        before = images.narrow(dim, 1, reach).flip(dim)
        after = images.narrow(dim, images.shape[dim] - 1 - reach, reach).flip(dim)
        images = torch.cat([before, images, after], dim)
    return images


class MinibatchStd(nn.Module):
    """One more channel: how far the images of a class spread over the batch (Karras et al. 2018, section 3).

    `(N, C, H, W)` and labels `(N,)` to `(N, C + 1, H, W)`: a batch that shows one image a class stands out. Within the
    class, since the spread between classes hides a collapse within them; `classes`=0 takes the batch as one class.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        if not self.classes:
            labels = torch.zeros_like(labels)
        member = (labels[:, None] == torch.arange(max(1, self.classes), device=x.device)).float()
        share = member / member.sum(0).clamp(min=1)
        # autocast would round the means of the products to half precision
        with torch.autocast(x.device.type, enabled=False):
            h = x.flatten(1).float()
            deviation = h - member @ (share.T @ h)
            variance = share.T @ deviation.square()
            # the root of 0 has no gradient
            spread = member @ (variance + 1e-8).sqrt().mean(1)
        channel = spread.to(x.dtype)[:, None, None, None].expand(-1, 1, *x.shape[2:])
        return torch.cat([x, channel], 1).contiguous(memory_format=torch.channels_last)


class Labelled(nn.ModuleList):
    """A sequence some of whose layers look at the labels or take noise: `forward(x, labels, noise)`."""

    def forward(self, x: Tensor, labels: Tensor, noise: Tensor | None = None) -> Tensor:
        for layer in self:
            if isinstance(layer, ConditionalBatchNorm2d | MinibatchStd):
                x = layer(x, labels)
            else:
                x = layer(x, noise) if isinstance(layer, Noise) else layer(x)
        return x


def activation(name: str, alpha: float = 1.0) -> nn.Module:
    """In place: what stands in front of it, a convolution or a normalisation, does not need its own output."""
    made = {"relu": nn.ReLU(True), "elu": nn.ELU(alpha, True), "leaky_relu": nn.LeakyReLU(0.2, True)}
    return made[name]


def initialise(module: nn.Module, init: str, gain: float = 1.0) -> None:
    """`normal`: DCGAN's N(0, 0.02); `critical`: std = gain / sqrt(fan_in). Biases 0, BN weights N(1, 0.02)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            std = 0.02 if init == "normal" else gain / math.sqrt(_fan_in(layer))
            nn.init.normal_(layer.weight, 0.0, std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d) and layer.affine:
            nn.init.normal_(layer.weight, 1.0, 0.02)
            nn.init.zeros_(layer.bias)


def _fan_in(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> float:
    if isinstance(layer, nn.Linear):
        return layer.in_features
    taps = layer.kernel_size[0] * layer.kernel_size[1]
    if isinstance(layer, nn.ConvTranspose2d):
        # an output pixel of a strided deconvolution sees taps / stride^2 of the kernel on average
        return layer.in_channels * taps / (layer.stride[0] * layer.stride[1])
    return layer.in_channels * taps
