"""Images from a trained generator: labelled, one random stream an image, the same bytes however they are asked for."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from steeldefect.gan.networks import PerClass, build_discriminator, build_generator, latent_size
from steeldefect.gan.orbit import placed
from steeldefect.runs.identity import derived_seed

SETTLING = 40 * 64  # images over which `settled` measures
CHUNK = 64  # images drawn together; fixed, since kernels may round differently for another batch size


def latents(seed: int, indices: Sequence[int], size: int) -> Tensor:
    """`(n, size)` float32 from N(0, 1); image i has a Philox stream keyed (seed, i) of its own."""
    streams = (np.random.Generator(np.random.Philox(key=[seed, i])) for i in indices)
    return torch.from_numpy(np.stack([s.standard_normal(size, dtype=np.float32) for s in streams]))


@torch.inference_mode()
def sample(generator: nn.Module, z: Tensor, labels: Tensor) -> Tensor:
    """uint8 `(N, S, S)` on the CPU from `(N, latent_size)` and `(N,)`; the generator must be in eval mode."""
    device = next(generator.parameters()).device
    order = labels.tolist() if isinstance(generator, PerClass) else []  # before they are on the device
    z, labels = z.to(device), labels.to(device)
    if isinstance(generator, PerClass):
        images = torch.cat([generator.of(label)(z[i : i + 1], labels[i : i + 1]) for i, label in enumerate(order)])
    else:
        images = generator(z, labels)
    return images.float().squeeze(1).add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).cpu()


def draw(
    generator: nn.Module,
    gan: Mapping[str, Any],
    classes: int,
    seed: int,
    first: int,
    count: int,
    seen_through: Sequence[str] = (),
) -> Iterator[np.ndarray]:
    """Bank images `first` ... `first + count - 1` in chunks, uint8 `(n, S, S)`; image k is of class k mod C."""
    return draw_numbers(generator, gan, classes, seed, np.arange(first, first + count), seen_through)


def draw_numbers(
    generator: nn.Module,
    gan: Mapping[str, Any],
    classes: int,
    seed: int,
    numbers: np.ndarray,
    seen_through: Sequence[str] = (),
) -> Iterator[np.ndarray]:
    """The images of these latent numbers (ascending) in chunks, uint8 `(n, S, S)`; number j is of class j mod C.

    seen_through: flips and shifts to draw them through, see `gan.orbit`.

    A chunk always starts at a multiple of `CHUNK` and is drawn whole, so that an image asked for alone has the
    bytes that it has in the bank.
    """
    for start in np.unique(numbers - numbers % CHUNK).tolist():
        indices = range(start, start + CHUNK)
        labels = torch.tensor([k % classes for k in indices])
        images = sample(generator, latents(seed, indices, latent_size(gan)), labels).numpy()
        if seen_through:
            images = placed(images, seen_through, seed, start)
        yield images[numbers[(numbers >= start) & (numbers < start + CHUNK)] - start]


def settled(generator: nn.Module, gan: Mapping[str, Any], counts: Sequence[int]) -> nn.Module:
    """A copy of an averaged generator with the batch statistics of its own weights, in eval mode.

    Averaged running statistics are not those of the averaged weights: weights that swing have an average with smaller
    activations, and under the variance of the swinging ones it draws with too little contrast. So they are measured,
    on latents that nothing else uses, in float32, as torch.optim.swa_utils.update_bn does. `counts`: real images of
    each class, whose mix a batch of the training has.
    """
    settling = deepcopy(generator).eval()
    for number, network in enumerate(settling if isinstance(settling, PerClass) else [settling]):
        norms = [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
        for layer in norms:
            layer.reset_running_stats()
            layer.momentum = None  # the mean over all batches
            layer.train()
        seed = derived_seed("gan", "statistics", number)
        shares = np.asarray(counts) / sum(counts)
        device = next(network.parameters()).device
        labels = torch.from_numpy(np.random.default_rng(seed).choice(len(counts), SETTLING, p=shares))
        if norms:
            with torch.no_grad():
                for start in range(0, SETTLING, CHUNK):
                    z = latents(seed, range(start, start + CHUNK), latent_size(gan))
                    network(z.to(device), labels[start : start + CHUNK].to(device))
        for layer in norms:
            layer.eval()
    return settling


def load_generator(folder: Path, gan: Mapping[str, Any], classes: int) -> nn.Module:
    """The averaged generator of a finished `gans/<id>` folder, in eval mode."""
    generator = build_generator(gan, classes)
    generator.load_state_dict(torch.load(folder / "generator.pt", weights_only=True, map_location="cpu"))
    return generator.eval().to(memory_format=torch.channels_last)


def load_discriminator(folder: Path, gan: Mapping[str, Any], classes: int) -> nn.Module:
    """The discriminator that trained beside it, in eval mode (no a-dropout)."""
    discriminator = build_discriminator(gan, classes)
    discriminator.load_state_dict(torch.load(folder / "discriminator.pt", weights_only=True, map_location="cpu"))
    return discriminator.eval().to(memory_format=torch.channels_last)
