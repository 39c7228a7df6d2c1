"""A training step of either kind leaves the device alone: no host read, no copy, no float64, no loop over images.

And it holds nothing that torch refuses on CUDA, where it must be deterministic.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.plugins.precision import MixedPrecision
from torch.nn import functional as F

from steeldefect.bench.adversarial import BareAdversarial, our_step
from steeldefect.bench.classifier import bare_step
from steeldefect.bench.steps import random_images
from steeldefect.classify.backbones import BACKBONES, build_classifier
from steeldefect.data.datamodule import MixDataModule
from steeldefect.gan.module import AdversarialModule
from steeldefect.runs.settings import plain
from tests.conftest import Compose
from tests.hot_path import watched

CPU = torch.device("cpu")
GANS = {
    "edcgan": ["gan=edcgan"],
    "dcgan": ["gan=dcgan"],
    "edcgan_plus": [
        *("gan=edcgan_plus", "gan.discriminator.r1_gamma=0.1", "gan.discriminator.r1_every=1"),
        *("gan.discriminator.spectral_norm=true", "gan.discriminator.minibatch_std=true"),
        "gan.discriminator.keep_probability=0.9",
        "gan.discriminator.augment=[brightness,contrast,flip,translation,cutout]",
    ],
    "projected": ["gan=projected", "gan.discriminator.feature_size=32"],
}


def gan_of(tiny: Compose, overrides: list[str], batch: int = 8) -> dict[str, Any]:
    return plain(tiny("train_gan", *overrides, f"gan.batch_size={batch}"))["gan"]


def classifier_of(tiny: Compose, name: str, batch: int = 8) -> dict[str, Any]:
    return plain(tiny("train_classifier", f"classifier={name}", "augment=classical", f"optimizer.batch_size={batch}"))


@pytest.mark.parametrize(
    "forbidden",
    [
        lambda x: float(x.sum()),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: bool((x > 0).all()),
        lambda x: torch.zeros_like(x, device="meta").copy_(x),
        lambda x: x.double(),
        lambda x: torch.unique(x),
        lambda x: F.pad(x.view(1, 1, 3).requires_grad_(), [1, 1], mode="reflect").sum().backward(),
        lambda x: F.adaptive_avg_pool2d(x.expand(1, 3, 3).clone().requires_grad_(), 2).sum().backward(),
    ],
)
def test_what_is_forbidden_is_seen(forbidden: Callable[[torch.Tensor], object]) -> None:
    with pytest.raises(AssertionError):
        watched(lambda: forbidden(torch.ones(3)))


@pytest.mark.parametrize("overrides", GANS.values(), ids=GANS)
def test_an_adversarial_step_runs_as_many_operations_for_any_batch(tiny: Compose, overrides: list[str]) -> None:
    def operations(batch: int) -> int:
        step = our_step(gan_of(tiny, overrides, batch), 3, "32-true", CPU)
        step()  # makes the optimizers' state
        return watched(step)

    assert operations(4) == operations(12) > 50


@pytest.mark.parametrize("name", [name for name in BACKBONES if not name.startswith("vgg")])
def test_a_classifier_step_runs_as_many_operations_for_any_batch(tiny: Compose, name: str) -> None:
    def operations(batch: int) -> int:
        step = bare_step(classifier_of(tiny, name, batch), 3, "32-true", CPU)
        step()
        return watched(step)

    assert operations(4) == operations(12) > 20


def test_a_step_of_vgg_holds_nothing_that_is_forbidden(tiny: Compose) -> None:
    """Without its linear layers, whose 120 million weights would take the time of ten other tests."""
    vgg = build_classifier(classifier_of(tiny, "vgg16_bn")["classifier"], 3).network
    vgg.classifier = torch.nn.Linear(512 * 7 * 7, 3)
    assert watched(lambda: vgg(torch.rand(4, 3, 64, 64)).sum().backward()) > 50


@pytest.mark.parametrize("name", ["edcgan", "dcgan"])
def test_an_adversarial_step_makes_no_tensor_on_the_host(tiny: Compose, name: str) -> None:
    """`meta` stands for a device that is not the host: what crosses from one to the other is seen."""
    gan, meta = gan_of(tiny, GANS[name]), torch.device("meta")
    module = BareAdversarial(gan, 3).to(meta)
    # the fused optimizers know no such device
    module.prepare([torch.optim.SGD(net.parameters(), 0.1) for net in (module.discriminator, module.generator)])
    data = MixDataModule(random_images(8, 16, 3), None, 16, 8, 0)
    data.images, data.labels = data.images.to(meta), data.labels.to(meta)
    batch = torch.arange(8, device=meta)
    assert watched(lambda: module.step_on(*data.on_after_batch_transfer(batch, 0))) > 50


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_cuda_sees_no_synchronisation(tiny: Compose, precision: str) -> None:
    device = torch.device("cuda")
    steps = [our_step(gan_of(tiny, overrides), 3, precision, device) for overrides in GANS.values()]
    steps += [bare_step(classifier_of(tiny, name), 3, precision, device) for name in BACKBONES]
    for step in steps:
        step()
        torch.cuda.set_sync_debug_mode("error")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")


def scaled(tiny: Compose, scaler: torch.amp.GradScaler, epochs: int) -> tuple[AdversarialModule, dict[str, Any]]:
    """A Trainer run under 16-mixed with this scaler, and the weights that it began with; two batches an epoch."""
    gan = gan_of(tiny, GANS["edcgan"])
    torch.manual_seed(0)
    module = AdversarialModule(gan, 3)
    before = {name: value.clone() for name, value in module.named_parameters()}
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        plugins=[MixedPrecision("16-mixed", "cpu", scaler=scaler)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, datamodule=MixDataModule(random_images(16, 16, 3), None, 16, 8, 0))
    return module, before


def test_fp16_skips_the_steps_of_both_optimizers_that_overflow_and_goes_on(tiny: Compose) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**126)
    module, before = scaled(tiny, scaler, 1)
    names = {"generator", "discriminator"}
    unchanged = {n.split(".")[0] for n, v in module.named_parameters() if torch.equal(v, before[n])} & names
    assert unchanged == names
    # Lightning updates the scale after the step of either optimizer: four steps in two batches
    assert scaler.get_scale() == 2.0**122

    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    module, before = scaled(tiny, scaler, 1)
    assert scaler.get_scale() == 2.0**10
    for name, value in module.named_parameters():
        if name.split(".")[0] in names and name.endswith("weight") and "embedding" not in name:
            assert torch.isfinite(value).all() and not torch.equal(value, before[name]), name


def test_fp16_gives_each_network_the_step_of_its_own_unscaled_gradient(tiny: Compose) -> None:
    """The scale is a power of two, so that it cancels but for what underflows."""
    (small, _), (large, _) = (
        scaled(tiny, torch.amp.GradScaler("cpu", init_scale=2.0**power, growth_interval=10**6), 1) for power in (8, 12)
    )
    for (name, a), b in zip(small.named_parameters(), large.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=2e-4, msg=name)
