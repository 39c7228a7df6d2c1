"""What each stage must cost at any scale: its steps run on fake tensors, every kernel at the device's peak.

A floor, not a forecast: an eager run's kernels, each as fast as arithmetic or memory allows, nothing in between. What
a compiler fuses moves fewer bytes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, TypeVar

import torch
from rich.table import Table
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from steeldefect.bench.adversarial import BareAdversarial
from steeldefect.bench.counting import Operation, counted
from steeldefect.bench.steps import autocast
from steeldefect.classify.module import ClassifierModule
from steeldefect.gan.networks import PerClass, build_generator, latent_size
from steeldefect.gan.sampling import CHUNK
from steeldefect.runs.errors import require
from steeldefect.runs.mixes import mix_name, phase_images, phase_updates
from steeldefect.runs.settings import made_elsewhere

Module = TypeVar("Module", bound=nn.Module)
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Cost:
    """A stage: `times` a step of these operations (a last, smaller batch counts as its share of a step)."""

    name: str
    times: float
    operations: tuple[Operation, ...]

    @property
    def flops(self) -> float:
        return self.times * sum(operation.flops for operation in self.operations)

    @property
    def bytes(self) -> float:
        return self.times * sum(operation.bytes for operation in self.operations)

    def seconds(self, flops_a_second: float, bytes_a_second: float) -> float:
        """The sum over kernels of whichever takes longer, arithmetic or memory (the roofline model)."""
        each = (max(one.flops / flops_a_second, one.bytes / bytes_a_second) for one in self.operations)
        return self.times * sum(each)


def gan_cost(settings: Mapping[str, Any], real: Sequence[int], precision: str) -> Cost:
    """The training of one generator on `real` images a class."""
    gan = settings["gan"]
    per_class = gan["conditioning"] == "per_class"
    batches = sum(ceil(n / gan["batch_size"]) for n in (real if per_class else [sum(real)]))
    steps = gan["updates"] or gan["epochs"] * batches
    share = sum(real) / (batches * gan["batch_size"])
    return Cost(f"gan {gan['name']}", steps * share, gan_step(gan, len(real), gan["batch_size"], precision))


def gan_step(gan: Mapping[str, Any], classes: int, batch: int, precision: str) -> tuple[Operation, ...]:
    """One update of D and one of G; the lazy penalty R1 is left out (it falls on every r1_every-th)."""
    options = {**gan, "discriminator": {**gan["discriminator"], "r1_gamma": 0}}

    def work(module: BareAdversarial) -> Callable[[], object]:
        module.prepare(module.configure_optimizers())
        module.batch_classes = [0]
        images, labels = _batch(batch, gan["image_size"])
        module.step_on(images, labels)  # the first step also makes the optimizers' state
        module.updates = 0
        return lambda: module.step_on(images, labels)

    return _operations(lambda: BareAdversarial(options, classes), work, precision)


def bank_cost(settings: Mapping[str, Any], classes: int) -> Cost:
    """`bank.count` images from the averaged generator, float32, as a bank is drawn."""
    gan, count = settings["gan"], settings["bank"]["count"]

    def work(generator: nn.Module) -> Callable[[], object]:
        generator.eval()
        network = generator.of(0) if isinstance(generator, PerClass) else generator
        z, labels = torch.randn(CHUNK, latent_size(gan)), torch.zeros(CHUNK, dtype=torch.int64)

        def draw() -> object:
            with torch.no_grad():
                return network(z, labels)

        return draw

    # a chunk is drawn whole
    operations = _operations(lambda: build_generator(gan, classes), work, "32-true")
    return Cost(f"bank {gan['name']}", ceil(count / CHUNK), operations)


def cell_cost(settings: Mapping[str, Any], real: Sequence[int], precision: str) -> Cost:
    """Both phases of a cell of `settings["mix"]`."""
    batch, mix = settings["optimizer"]["batch_size"], settings["mix"]
    times = 0.0
    for phase in ("initial", "retrain"):
        images = phase_images(real, mix, phase, None)
        share = images / (ceil(images / batch) * batch)
        times += share * phase_updates(settings, settings["schedule"]["name"], phase, real)
    operations = classifier_step(settings["classifier"], settings["optimizer"], len(real), precision)
    return Cost(f"cell {settings['classifier']['name']}", times, operations)


def classifier_step(
    classifier: Mapping[str, Any], optimizer: Mapping[str, Any], classes: int, precision: str
) -> tuple[Operation, ...]:
    def work(module: ClassifierModule) -> Callable[[], object]:
        chosen = module.configure_optimizers()
        images, labels = _batch(optimizer["batch_size"], classifier["image_size"])

        def step() -> None:
            chosen.zero_grad()
            loss = module.training_step((images, labels), 0)
            loss.backward()
            chosen.step()

        step()  # the first one also makes the optimizer's state
        return step

    whole = {**classifier, "weights": None}
    return _operations(lambda: ClassifierModule(whole, dict(optimizer), classes), work, precision)


def _operations(
    build: Callable[[], Module], work: Callable[[Module], Callable[[], object]], precision: str
) -> tuple[Operation, ...]:
    """What `work(build())()` does, on tensors that have a shape, strides and a number format, and no memory."""
    # built on `meta` first: the weights of a fake module cannot change their memory format
    with torch.device("meta"):
        module = build()
    with FakeTensorMode(), autocast(precision, CPU):
        for layer in module.modules():
            for name, value in layer.named_parameters(recurse=False):
                layer.register_parameter(name, nn.Parameter(_like(value), value.requires_grad))
            for name, buffer in layer.named_buffers(recurse=False):
                layer.register_buffer(name, _like(buffer), name not in layer._non_persistent_buffers_set)
        return tuple(counted(work(module)).operations)


def _like(value: Tensor) -> Tensor:
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype)


def _batch(batch: int, size: int) -> tuple[Tensor, Tensor]:
    images = torch.zeros(batch, 1, size, size).contiguous(memory_format=torch.channels_last)
    return images, torch.zeros(batch, dtype=torch.int64)


def stage_costs(settings: Mapping[str, Any]) -> list[Cost]:
    """Of the generator, its bank, and a cell of each of `floor.classifiers` on the config's mix and schedule."""
    real, precision = settings["floor"]["real"], settings["precision"]
    costs = [gan_cost(settings, real, precision), bank_cost(settings, len(real))]
    for classifier in settings["floor"]["classifiers"].values():
        costs.append(cell_cost({**settings, "classifier": classifier}, real, precision))
    return costs


def floor_table(costs: Sequence[Cost], settings: Mapping[str, Any]) -> Table:
    device, scale, mix = settings["device"], settings["scale"]["name"], mix_name(settings["mix"])
    title = (
        f"Floor at scale={scale}, mix={mix}, {settings['precision']}: {device['tflops']} TFLOP/s, {device['gbs']} GB/s"
    )
    table = Table("stage", title=title, caption="eager kernels at the device's peak; nothing is fused, nothing waits")
    for column in ("steps", "PFLOP", "TB", "hours"):
        table.add_column(column, justify="right")
    for cost in costs:
        hours = cost.seconds(1e12 * device["tflops"], 1e9 * device["gbs"]) / 3600
        figures = (cost.times, cost.flops / 1e15, cost.bytes / 1e12, hours)
        table.add_row(cost.name, *(f"{figure:,.0f}" if figure >= 1000 else f"{figure:.3g}" for figure in figures))
    return table


def check_options(settings: Mapping[str, Any]) -> None:
    """`device`, `floor.real`, `precision`, `gan`; UserError names what does not fit."""
    require(not made_elsewhere(settings["gan"]), "gan=folder: is trained elsewhere, so its cost is not known here")
    for key, value in settings["device"].items():
        number = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
        require(number, f"device.{key}={value}: must be a number above 0; the device's data sheet has it")
    real = settings["floor"]["real"]
    whole = isinstance(real, list) and bool(real) and all(isinstance(n, int) and n > 0 for n in real)
    require(whole, f"floor.real={real}: must be a list of images a class, each from 1 up")
    precisions = ("bf16-mixed", "16-mixed", "32-true")
    require(
        settings["precision"] in precisions,
        f"precision={settings['precision']}: belongs to a device that is not here, so give one of {', '.join(precisions)}",
    )
    kind = settings["mix"]["kind"]
    require(kind != "real_extra", f"mix.kind={kind}: what it adds depends on the data set; give another mix")
