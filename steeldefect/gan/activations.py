"""The paper's two claims about ELU in the discriminator, measured: self-normalising, and cheaper without BN.

Rows are plain dicts, to be written as CSV and drawn by the report.
"""

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from steeldefect.gan.losses import LOSSES
from steeldefect.gan.module import judge
from steeldefect.gan.networks import Discriminator

# what D is made of, beside the values of the config: ELU under both inits, and what it is said to make needless.
# Without a-dropout, whose dropped channels would stand in for the signal where that has died away; one stack has it.
# ELU as it is commonly taken, whatever alpha the config has.
PLAIN = {"norm": "none", "keep_probability": 1.0, "elu_alpha": 1.0}
STACKS: dict[str, dict[str, Any]] = {
    "ELU, critical init": {**PLAIN, "activation": "elu", "init": "critical"},
    "ELU and a-dropout, critical init": {"activation": "elu", "norm": "none", "init": "critical", "elu_alpha": 1.0},
    "ELU, N(0, 0.02)": {**PLAIN, "activation": "elu", "init": "normal"},
    "ReLU, N(0, 0.02)": {**PLAIN, "activation": "relu", "init": "normal"},
    "ELU and BN, N(0, 0.02)": {**PLAIN, "activation": "elu", "norm": "batch", "init": "normal"},
}
# D as it is trained: without BN real and fake share a pass, with BN they must not
STEPS: dict[str, tuple[str, bool]] = {
    "no BN, one pass": ("none", True),
    "no BN, two passes": ("none", False),
    "BN, two passes": ("batch", False),
}


def activation_rows(
    gan: Mapping[str, Any], classes: int, images: Tensor, labels: Tensor, seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """Mean and standard deviation over a batch of what enters and leaves the activation of each layer, untrained.

    `images` is `(N, 1, S, S)` in [-1, 1]; in training mode. One row a stack, seed, layer (from 1)
    and `place`: `pre_activation` (after BN where there is one) or `activation`.
    """
    rows = []
    for stack, options in STACKS.items():
        for seed in seeds:
            torch.manual_seed(seed)
            network = Discriminator(gan["image_size"], classes, {**gan["discriminator"], **options}).to(images.device)
            seen: list[tuple[Tensor, Tensor]] = []
            for layer in network.layers:
                if isinstance(layer, nn.ELU | nn.ReLU):
                    layer.inplace = False  # what enters is to be seen too
                    layer.register_forward_hook(lambda _, inputs, out, seen=seen: seen.append((inputs[0], out)))
            with torch.no_grad():
                network(images, labels)
            for number, maps in enumerate(seen, 1):
                for place, values in zip(("pre_activation", "activation"), maps, strict=True):
                    figures = {"mean": values.mean().item(), "std": values.std().item()}
                    rows.append({"stack": stack, "seed": seed, "layer": number, "place": place, **figures})
    return rows


def step_rows(
    gan: Mapping[str, Any], classes: int, images: Tensor, labels: Tensor, repeats: int, precision: str
) -> list[dict[str, Any]]:
    """Seconds of one update of D with and without BN, real `images` against as many others: a row a kind and repeat.

    The kinds take turns, so that a machine that slows down slows all of them.
    """
    fake = torch.rand_like(images) * 2 - 1
    networks, optimizers = {}, {}
    for name, (norm, one_pass) in STEPS.items():
        network = Discriminator(gan["image_size"], classes, {**gan["discriminator"], "norm": norm})
        network.one_pass = one_pass
        networks[name] = network.to(images.device).to(memory_format=torch.channels_last)
        optimizers[name] = torch.optim.Adam(networks[name].parameters(), lr=gan["optimizer"]["lr"], fused=True)
    rows = []
    for repeat in range(-1, repeats):  # the first round warms up
        for name in STEPS:
            start = time.perf_counter()
            _step(networks[name], optimizers[name], images, fake, labels, gan["loss"], precision)
            if repeat >= 0:
                row = {"step": name, "repeat": repeat, "seconds": time.perf_counter() - start}
                rows.append(row | {"images": 2 * len(images), "precision": precision})
    return rows


def _step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    real: Tensor,
    fake: Tensor,
    labels: Tensor,
    loss: str,
    precision: str,
) -> None:
    kinds = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
    with torch.autocast(real.device.type, dtype=kinds.get(precision), enabled=precision in kinds):
        of_d, _ = LOSSES[loss]
        value = of_d(*judge(network, real, fake, labels)[:2])
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    if real.is_cuda:
        torch.cuda.synchronize()


def summary(activations: Sequence[Mapping[str, Any]], steps: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the rows say, a line a stack and a kind of step: medians over seeds and repeats."""
    lines = []
    for stack in dict.fromkeys(row["stack"] for row in activations):
        stds = [
            statistics.median(
                row["std"]
                for row in activations
                if row["stack"] == stack and row["layer"] == layer and row["place"] == "pre_activation"
            )
            for layer in sorted({row["layer"] for row in activations})
        ]
        lines.append(f"{stack}: std of the pre-activations by layer {', '.join(f'{std:.2g}' for std in stds)}")
    times = {
        name: statistics.median(row["seconds"] for row in steps if row["step"] == name)
        for name in dict.fromkeys(row["step"] for row in steps)
    }
    quickest = min(times.values())
    lines += [
        f"{name}: {1000 * s:.1f} ms a step of D, {s / quickest:.2f} times the quickest" for name, s in times.items()
    ]
    return lines
