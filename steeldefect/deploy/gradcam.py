"""Grad-CAM (Selvaraju et al. 2017): where in the image the evidence for a class lies."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from steeldefect.data.datamodule import to_float
from steeldefect.data.resize import resize
from steeldefect.deploy.backends import TorchModel

OPACITY = 0.45  # of the strongest evidence over the image


def gradcam(network: nn.Module, images: Tensor, classes: Sequence[int]) -> Tensor:
    """Evidence for `classes[i]` in image i: `(N, h, w)` in [0, 1], on the last feature map with any extent.

    `images` is `(N, 1, H, W)` in [-1, 1]; `network`, in eval mode, gives logits `(N, C)`. An image without positive
    evidence is 0 everywhere.
    """
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        if isinstance(output, Tensor) and output.dim() == 4 and output.shape[-1] * output.shape[-2] > 1:
            kept[:] = [output]

    hooks = [module.register_forward_hook(keep) for module in network.modules()]
    try:
        with torch.enable_grad():
            logits = network(images.requires_grad_())
            features = kept[0]
            score = logits[torch.arange(len(images)), torch.tensor(classes)].sum()
            (gradient,) = torch.autograd.grad(score, features)
    finally:
        for hook in hooks:
            hook.remove()
    evidence = (gradient.mean((2, 3), keepdim=True) * features).sum(1).relu().detach()
    return evidence / evidence.amax((1, 2), keepdim=True).clamp_min(1e-12)


def overlay(image: np.ndarray, evidence: np.ndarray) -> Image.Image:
    """Gray `(S, S)` uint8 under colours for `(S, S)` evidence in [0, 1], which also sets their opacity; RGB."""
    gray = np.repeat(image[..., None] / 255.0, 3, axis=-1)
    colours = matplotlib.colormaps["inferno"](evidence)[..., :3]
    opacity = OPACITY * evidence[..., None]
    return Image.fromarray((255 * ((1 - opacity) * gray + opacity * colours)).round().astype(np.uint8))


def write_overlays(
    model: TorchModel, target: Path, files: Sequence[Path], root: Path, images: np.ndarray, classes: Sequence[int]
) -> None:
    """`<target>/<path below root>.png` for each file; images are uint8 `(N, S, S)`."""
    network_size = model.card.preprocessing["network_size"]
    evidence = gradcam(model.network, to_float(resize(images, network_size)), classes)
    large = F.interpolate(evidence[:, None], images.shape[-2:], mode="bilinear")[:, 0].numpy()
    for path, image, shown in zip(files, images, large, strict=True):
        below = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
        made = target / f"{below}.png"
        made.parent.mkdir(parents=True, exist_ok=True)
        overlay(image, shown).save(made)
