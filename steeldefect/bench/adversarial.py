"""The adversarial step: ours without a Trainer around it, and the loop that one would write instead."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from steeldefect.bench.counting import counted
from steeldefect.bench.roof import Roof, at_the_roof
from steeldefect.bench.steps import autocast, random_images
from steeldefect.bench.timing import Row, Side, alternating, apart, timed
from steeldefect.data.datamodule import MixDataModule, to_float
from steeldefect.gan.layers import Deconvolution
from steeldefect.gan.module import AdversarialModule
from steeldefect.gan.networks import Discriminator, Generator, latent_size


class BareAdversarial(AdversarialModule):
    """The training step as it is, with nothing of Lightning around it."""

    updates = 0

    @property
    def global_step(self) -> int:
        # both optimizers are counted, as a Trainer does
        return 2 * self.updates

    def prepare(self, optimizers: list[torch.optim.Optimizer]) -> None:
        self.pair = optimizers

    def optimizers(self, use_pl_optimizer: bool = True) -> Any:
        return self.pair

    def manual_backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        loss.backward(*args, **kwargs)

    def step_on(self, images: Tensor, labels: Tensor) -> None:
        self.training_step((images, labels), self.updates)
        self.updates += 1


class PlainDeconvolution(Deconvolution):
    """torch's own, the bias inside."""

    forward = nn.ConvTranspose2d.forward


class PlainGenerator(Generator):
    """Ours in torch's own layers and the memory format that torch takes by itself (NCHW)."""

    layout = torch.contiguous_format
    deconvolution = PlainDeconvolution


def our_step(gan: dict[str, Any], classes: int, precision: str, device: torch.device) -> Callable[[], None]:
    """From uint8 images that lie on the device to updated weights, as in a run."""
    module = BareAdversarial(gan, classes).to(device)
    module.prepare(module.configure_optimizers())
    batch, size = gan["batch_size"], gan["image_size"]
    images, labels = random_images(4 * batch, size, classes)
    data = MixDataModule((images, labels), None, size, batch, 0)
    data.images, data.labels = data.images.to(device), data.labels.to(device)
    order = torch.randperm(len(labels), device=device).split(batch)

    def step() -> None:
        batch_of_images = data.on_after_batch_transfer(order[module.updates % len(order)], 0)
        with autocast(precision, device):
            module.step_on(*batch_of_images)

    return step


def tutorial_loop(gan: Mapping[str, Any], classes: int, steps: int, device: torch.device) -> Side:
    """Seconds of a step of `tutorial_step`, of `steps` in a row."""
    return timed(tutorial_step(gan, classes, device), steps, device)


def tutorial_step(gan: Mapping[str, Any], classes: int, device: torch.device) -> Callable[[], None]:
    """The loop of PyTorch's DCGAN tutorial on the same networks: float32, NCHW, real and fake apart, losses read off.

    Its batch is ready on the device, as float: reading and converting is not charged to it.
    """
    generator = PlainGenerator(gan["image_size"], gan["latent_dim"], classes, gan["generator"]).to(device)
    discriminator = Discriminator(gan["image_size"], classes, gan["discriminator"]).to(device)
    lr, betas = (
        float(gan["optimizer"]["lr"]),
        (float(gan["optimizer"]["betas"][0]), float(gan["optimizer"]["betas"][1])),
    )
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=lr, betas=betas)
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=lr, betas=betas)
    criterion, n = nn.BCEWithLogitsLoss(), gan["batch_size"]
    images, host_labels = random_images(n, gan["image_size"], classes)
    real = to_float(torch.from_numpy(images)).contiguous(memory_format=torch.contiguous_format).to(device)
    labels = torch.from_numpy(host_labels).to(device)

    def step() -> None:
        discriminator.zero_grad()
        target = torch.full((n,), 1.0, device=device)
        loss_real = criterion(discriminator(real, labels), target)
        loss_real.backward()
        fake = generator(torch.randn(n, latent_size(gan), device=device), labels)
        target.fill_(0.0)
        loss_fake = criterion(discriminator(fake.detach(), labels), target)
        loss_fake.backward()
        optimizer_d.step()
        generator.zero_grad()
        target.fill_(1.0)
        loss_g = criterion(discriminator(fake, labels), target)
        loss_g.backward()
        optimizer_g.step()
        (loss_real + loss_fake).item(), loss_g.item()

    return step


def adversarial_rows(
    gan: dict[str, Any],
    classes: int,
    precision: str,
    roof: Roof | None,
    options: Mapping[str, Any],
    device: torch.device,
) -> list[Row]:
    """Ours against the tutorial's loop, and against the roof where it was measured (ratio: the share of it)."""
    name, steps = f"adversarial_step_{gan['image_size']}", options["steps"]
    ours = our_step(gan, classes, precision, device)
    with apart(tutorial_loop, gan, classes, steps, device) as other:
        row = alternating(name, timed(ours, steps, device), other, options["pairs"])
    if roof is None:
        return [row]
    least = at_the_roof(counted(ours).flops_by_kind(), roof, precision)
    return [row, Row(f"{name}_roof", row.ours, least, "s", least / row.ours)]
