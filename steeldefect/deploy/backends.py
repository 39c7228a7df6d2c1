"""Model files behind one call, uint8 images in, probabilities out; onnxruntime and torch are imported where used."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from steeldefect.deploy.card import Card, card_of, card_of_metadata
from steeldefect.runs.errors import UserError, require

if TYPE_CHECKING:
    from torch import nn

ENDINGS = (".onnx", ".pt")
# predict runs without a copy of the repository, too
_INSTALL = "pip install -c constraints.txt -e '.[{0}]' (or the wheel with [{0}])"


class Model(Protocol):
    card: Card

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """float32 `(N, C)` for uint8 `(N, S, S)`, S being `card.image_size`."""
        ...


class OnnxModel:
    """A file written with format=onnx, on a GPU where onnxruntime sees one. UserError where it is none."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise UserError(f"model={path}: needs onnxruntime: {_INSTALL.format('predict')}") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3
        # onnxruntime's default of TF32 moves a probability by more than `export` allows
        wanted = {"CUDAExecutionProvider": {"use_tf32": "0"}, "CPUExecutionProvider": {}}
        available = onnxruntime.get_available_providers()
        providers = [(name, options) for name, options in wanted.items() if name in available]
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers)
        # its errors have no base class of their own
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"model={path}: cannot be loaded by onnxruntime ({reason})") from None
        self.card = card_of_metadata(self.session.get_modelmeta().custom_metadata_map, str(path))

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        found: list[np.ndarray] = self.session.run(["probabilities"], {"images": images})
        return found[0]


class TorchModel:
    """A file written with format=torch; the network is built by steeldefect, on the CPU. UserError where it is none."""

    network: "nn.Module"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        try:
            import torch

            from steeldefect.deploy.torch_file import load
        except ImportError as error:
            raise UserError(
                f"model={path}: needs {error.name}: {_INSTALL.format('train')}, or export with format=onnx"
            ) from None
        if threads:
            torch.set_num_threads(threads)
        values, self.network = load(path)
        self.card = card_of(values, str(path))

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        from steeldefect.deploy.torch_file import probabilities

        return probabilities(self.network, images, self.card.preprocessing["network_size"])


def load_model(file: Any, threads: int | None = None) -> OnnxModel | TorchModel:
    """The model of a file by its ending."""
    require(file is not None, "model=null: give the file that experiments/export.py wrote")
    path = Path(str(file)).expanduser()
    require(path.is_file(), f"model={path}: no such file")
    require(path.suffix in ENDINGS, f"model={path}: must end in {' or '.join(ENDINGS)}")
    return (OnnxModel if path.suffix == ".onnx" else TorchModel)(path, threads)
