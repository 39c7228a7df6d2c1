"""ELU statistics, the paper's a-dropout, and the initialisation that keeps an ELU stack alive."""

import math

import torch
from torch import Tensor, nn


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


def activation(name: str, alpha: float = 1.0) -> nn.Module:
    return {"relu": nn.ReLU(), "elu": nn.ELU(alpha), "leaky_relu": nn.LeakyReLU(0.2)}[name]


def initialise(module: nn.Module, init: str, gain: float = 1.0) -> None:
    """`normal`: DCGAN's N(0, 0.02); `critical`: std = gain / sqrt(fan_in). Biases 0, BN weights N(1, 0.02)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            std = 0.02 if init == "normal" else gain / math.sqrt(_fan_in(layer))
            nn.init.normal_(layer.weight, 0.0, std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
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
