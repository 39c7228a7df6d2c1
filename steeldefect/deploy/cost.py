"""What a backbone costs at batch 1: parameters, FLOPs, latency, and what depthwise-separable layers save (eq. 4)."""

import csv
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from steeldefect.classify.backbones import BACKBONES, build_classifier
from steeldefect.deploy.export import quiet_exporter
from steeldefect.runs.errors import nearest, require

SCALABLE = "mobilenet_v2"  # the backbone with the multipliers alpha (width) and rho (resolution) of section 2.3


@dataclass(frozen=True)
class Row:
    """One figure. `width` and `layer` are empty where they say nothing; threads and runs belong to latencies."""

    name: str
    classifier: str
    width: float | str
    image_size: int
    layer: str
    value: float
    unit: str
    threads: int | str = ""
    runs: int | str = ""


@dataclass(frozen=True)
class Timing:
    """How latencies are measured: the median of `runs` single images after `warmup`, on `threads` threads."""

    threads: int
    runs: int
    warmup: int


@dataclass(frozen=True)
class Separable:
    """A depthwise `k x k` convolution of M channels and the pointwise one to N that follows, both on `area` pixels."""

    layer: str
    kernel: int
    m: int
    n: int
    area: int

    @property
    def separate(self) -> int:
        """Multiplications of the two layers."""
        return (self.kernel**2 * self.m + self.m * self.n) * self.area

    @property
    def ordinary(self) -> int:
        """Multiplications of one ordinary convolution with the same kernel, channels and output."""
        return self.kernel**2 * self.m * self.n * self.area

    @property
    def formula(self) -> float:
        """1/N + 1/k^2, the right-hand side of eq. 4 (printed there as D_k^2)."""
        return 1 / self.n + 1 / self.kernel**2


def network(options: Mapping[str, Any], classes: int, device: str = "cpu") -> nn.Module:
    """A fresh backbone of the config group `classifier` in eval mode; on `meta` it holds no weights and computes nothing."""
    with torch.device(device):
        return build_classifier({**options, "weights": None}, classes).eval()


@torch.inference_mode()
def flops(model: nn.Module, image_size: int) -> int:
    """Floating-point operations for one image, a multiplication and an addition counted as two."""
    device = next(model.parameters()).device
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 1, image_size, image_size, device=device))
    return int(counter.get_total_flops())


@torch.inference_mode()
def separable_layers(model: nn.Module, image_size: int) -> list[Separable]:
    """Every depthwise convolution with the pointwise one after it, in the order in which they run."""
    seen: list[tuple[str, nn.Conv2d, int]] = []

    def note(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda module, inputs, output: seen.append((name, module, output.shape[-1] * output.shape[-2]))  # type: ignore[arg-type]

    convolutions = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    hooks = [module.register_forward_hook(note(name)) for name, module in convolutions]
    model(torch.zeros(1, 1, image_size, image_size, device=next(model.parameters()).device))
    for hook in hooks:
        hook.remove()
    found = []
    for (name, first, area), (_, second, _) in pairwise(seen):
        if first.groups == first.in_channels > 1 and second.kernel_size == (1, 1):
            found.append(Separable(name, first.kernel_size[0], first.in_channels, second.out_channels, area))
    return found


def latency_torch(model: nn.Module, image_size: int, timing: Timing) -> float:
    """Seconds for one image, eager, float32; the process keeps `timing.threads`."""
    torch.set_num_threads(timing.threads)
    image = torch.zeros(1, 1, image_size, image_size)
    with torch.inference_mode():
        return _median(lambda: model(image), timing)


def latency_onnxruntime(model: nn.Module, image_size: int, timing: Timing) -> float:
    """Seconds for one image with onnxruntime on the CPU, float32."""
    import onnxruntime

    image = torch.zeros(1, 1, image_size, image_size)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = timing.threads
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        with quiet_exporter():
            program = torch.onnx.export(model, (image,), dynamo=True, input_names=["images"], verbose=False)
        assert program is not None
        program.save(path, external_data=False)
        session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    fed = {"images": image.numpy()}
    return _median(lambda: session.run(None, fed), timing)


def _median(call: Callable[[], Any], timing: Timing) -> float:
    taken = []
    for run in range(timing.warmup + timing.runs):
        started = time.perf_counter()
        call()
        if run >= timing.warmup:
            taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def backbone_rows(options: Mapping[str, Any], image_size: int, classes: int, timing: Timing | None) -> Iterator[Row]:
    """Parameters, FLOPs and, where `timing` is given, both latencies of one backbone."""
    name = options["name"]
    shown: float | str = options["width"] if name == SCALABLE else ""
    options = {**options, "image_size": image_size}  # MobileNetV2 is built for its size
    model = network(options, classes, "meta")
    parameters = sum(p.numel() for p in model.parameters())
    yield Row("parameters", name, shown, image_size, "", parameters, "1")
    yield Row("flops", name, shown, image_size, "", flops(model, image_size), "flop")
    if timing is None:
        return
    model = network(options, classes)
    for runtime, measure in (("torch", latency_torch), ("onnxruntime", latency_onnxruntime)):
        seconds = measure(model, image_size, timing)
        yield Row(f"latency_{runtime}", name, shown, image_size, "", seconds, "s", timing.threads, timing.runs)


def separable_rows(width: float, image_size: int, classes: int) -> Iterator[Row]:
    """Eq. 4 for each separable pair of MobileNetV2: the ratio of its layers beside 1/N + 1/9, then all pairs together."""
    layers = separable_layers(network({"name": SCALABLE, "width": width}, classes, "meta"), image_size)
    for layer in layers:
        at = (SCALABLE, width, image_size, layer.layer)
        yield Row("separable_ratio", *at, layer.separate / layer.ordinary, "1")
        yield Row("separable_formula", *at, layer.formula, "1")
    total = sum(layer.separate for layer in layers) / sum(layer.ordinary for layer in layers)
    yield Row("separable_ratio", SCALABLE, width, image_size, "all", total, "1")


def cost_rows(
    classifiers: Sequence[Mapping[str, Any]],
    image_size: int,
    classes: int,
    widths: Sequence[float],
    resolutions: Sequence[float],
    timing: Timing | None,
) -> Iterator[Row]:
    """All backbones at one size, eq. 4, and the grid of MobileNetV2 over alpha and rho (its own row is not repeated).

    `classifiers`: configs of the group `classifier`.
    """
    for options in classifiers:
        yield from backbone_rows(options, image_size, classes, timing)
    own = {(options.get("width"), 1.0) for options in classifiers if options["name"] == SCALABLE}
    yield from separable_rows(1.0, image_size, classes)
    for width in widths:
        for rho in resolutions:
            if (width, rho) not in own:
                options = {"name": SCALABLE, "width": width}
                yield from backbone_rows(options, round(rho * image_size), classes, timing)


def write_cost(rows: Sequence[Row], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows({**asdict(row), "value": f"{row.value:.6g}" if row.unit != "1" else row.value} for row in rows)


def check_options(options: Mapping[str, Any]) -> None:
    """The config group `cost`; UserError names what does not fit."""
    for name in options["classifiers"] or []:
        require(name in BACKBONES, f"cost.classifiers={name}: {nearest(name, BACKBONES)}")
    for key in ("image_size", "classes", "threads", "runs"):
        value = options[key]
        require(isinstance(value, int) and value > 0, f"cost.{key}={value}: must be a whole number from 1 up")
    for key in ("widths", "resolutions"):
        values = options[key]
        require(all(value > 0 for value in values), f"cost.{key}={values}: must be numbers above 0")
