"""Adversarial training as a LightningModule with manual optimization (paper: section 2.1, eqs. 1-3)."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from typing import Any, cast

import numpy as np
import torch
from lightning import LightningModule
from torch import Tensor, nn

from steeldefect.gan.augment import augment
from steeldefect.gan.losses import CALLED_FAKE, LOSSES, r1_penalty
from steeldefect.gan.networks import PerClass, build_discriminator, build_generator, latent_size
from steeldefect.gan.sampling import settled
from steeldefect.runs import ranks
from steeldefect.runs.errors import UserError
from steeldefect.runs.identities import uneven

CURVES = ("loss_d", "loss_g", "accuracy_real", "accuracy_fake")


class AdversarialModule(LightningModule):
    """Generator, discriminator and the average of the generator's weights, from which banks are drawn.

    Batches are (images `(N, 1, S, S)` in [-1, 1], labels `(N,)`); fakes take the labels of the batch. Nothing in a
    step waits for the device: the curves are summed there and read once an epoch.
    """

    sums: Tensor
    first_bad: Tensor
    step: Tensor
    mismatch_weights: Tensor | None

    def __init__(self, gan: dict[str, Any], classes: int, counts: Sequence[int] | None = None) -> None:
        """counts: real images of each class, where they are not equally many."""
        super().__init__()
        self.counts = counts or [1] * classes
        self.save_hyperparameters({"gan": gan, "classes": classes})
        self.automatic_optimization = False
        self.gan: Mapping[str, Any] = gan
        self.generator = build_generator(gan, classes).to(memory_format=torch.channels_last)
        self.discriminator = build_discriminator(gan, classes).to(memory_format=torch.channels_last)
        self.average = deepcopy(self.generator).requires_grad_(False).eval()
        self.discriminator_loss, self.generator_loss = LOSSES[gan["loss"]]
        self.called_fake = CALLED_FAKE[gan["loss"]]
        self.policies = tuple(gan["discriminator"]["augment"])
        self.classes = classes
        # a network of one class knows no other label
        conditional = gan["conditioning"] == "conditional" and classes > 1
        self.mismatch = gan["discriminator"].get("mismatch", 0) if conditional else 0
        weights = mismatch_weights(self.counts) if self.mismatch and uneven(self.counts) else None
        self.register_buffer("mismatch_weights", weights, persistent=False)
        self.batch_classes: list[int] = []
        self.register_buffer("sums", torch.zeros(len(CURVES)), persistent=False)
        self.register_buffer("first_bad", torch.full((), -1, dtype=torch.int64), persistent=False)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.history: list[dict[str, float]] = []

    def trained_networks(self) -> list[nn.Module]:
        networks = (self.generator, self.discriminator)
        return [part for net in networks for part in (net if isinstance(net, PerClass) else [net])]

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        options = self.gan["optimizer"]
        # floats: Adam refuses [0, 0.99], an int beside a float
        lr, betas = float(options["lr"]), (float(options["betas"][0]), float(options["betas"][1]))
        lr_d = lr if options["lr_discriminator"] is None else float(options["lr_discriminator"])
        networks = ((self.discriminator, lr_d), (self.generator, lr))
        return [torch.optim.Adam(net.parameters(), lr=rate, betas=betas, fused=True) for net, rate in networks]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        real, labels = batch
        total = ranks.total_of(self, len(real))
        latents = ranks.mine(torch.randn(total, latent_size(self.gan), device=real.device))
        with ranks.own_noise(real.device, "gan", self.global_step):
            self._update(real, latents, labels, batch_idx, ranks.weight(total))

    def _update(self, real: Tensor, latents: Tensor, labels: Tensor, batch_idx: int, weight: float) -> None:
        """One update of D, then one of G; `weight`: of these rows among those of all processes, see `ranks.weight`."""
        optimizer_d, optimizer_g = cast(list[Any], self.optimizers())
        generator, discriminator = self._networks(batch_idx)
        fake = generator(latents, labels)

        # D: real against fake
        wrong = self._wrong(labels)
        real_logits, fake_logits, wrong_logits = judge(discriminator, real, fake.detach(), labels, self.policies, wrong)
        loss_d = self.discriminator_loss(real_logits, fake_logits)
        objective = loss_d
        if wrong is not None:
            weights = None if self.mismatch_weights is None else self.mismatch_weights[wrong]
            objective = loss_d + self.mismatch * self.called_fake(wrong_logits, weights)
        objective = weight * self._penalised(objective, discriminator, real, labels)
        optimizer_d.zero_grad()
        # R1 is differentiated twice, and autocast would round the second pass
        penalised = self.gan["discriminator"]["r1_gamma"] > 0
        with torch.autocast(real.device.type, enabled=False) if penalised else nullcontext():
            self.manual_backward(objective)
        optimizer_d.step()

        # G: the same fakes, judged by the new D, whose own gradients are not needed
        discriminator.requires_grad_(False)
        loss_g = weight * self.generator_loss(discriminator(augment(fake, self.policies), labels).float())
        optimizer_g.zero_grad()
        self.manual_backward(loss_g)
        optimizer_g.step()
        discriminator.requires_grad_(True)
        self._update_average()

        with torch.no_grad():
            right = [(real_logits > 0).float().mean(), (fake_logits < 0).float().mean()]
            self.sums += torch.stack([weight * loss_d.detach(), loss_g.detach(), *(weight * share for share in right)])
            bad = ~torch.isfinite(objective + loss_g) & (self.first_bad < 0)
            self.first_bad.copy_(torch.where(bad, self.step, self.first_bad))
            self.step += 1

    def _wrong(self, labels: Tensor) -> Tensor | None:
        """For each image one of the labels that it does not have; None without `discriminator.mismatch`."""
        if not self.mismatch:
            return None
        return (labels + torch.randint_like(labels, 1, self.classes)) % self.classes

    def _penalised(self, loss: Tensor, discriminator: nn.Module, real: Tensor, labels: Tensor) -> Tensor:
        """`loss` + gamma R1, at every k-th step and then k-fold ("lazy", Karras et al. 2020, appendix B)."""
        gamma, every = self.gan["discriminator"]["r1_gamma"], self.gan["discriminator"]["r1_every"]
        # Lightning counts the steps of both optimizers, on the host
        if not gamma or self.global_step // 2 % every:
            return loss
        return loss + gamma * every * r1_penalty(discriminator, real, labels, self.policies)

    @torch.no_grad()
    def _update_average(self) -> None:
        """theirs + (1 - decay)(ours - theirs), BN statistics too. torch's AveragedModel reads a counter off the device."""
        theirs, ours = self.average.state_dict(), self.generator.state_dict()
        floats = [name for name, value in ours.items() if value.is_floating_point()]
        torch._foreach_lerp_([theirs[n] for n in floats], [ours[n] for n in floats], 1 - self.gan["ema_decay"])

    def settled(self) -> nn.Module:
        """The averaged generator as banks are drawn from it (`sampling.settled`)."""
        return settled(self.average, self.gan, self.counts)

    def on_train_epoch_start(self) -> None:
        self.average.eval()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # a run that goes on in the middle of an epoch does not start it
        if isinstance(self.generator, PerClass) and (batch_idx == 0 or not self.batch_classes):
            datamodule: Any = cast(Any, self.trainer).datamodule
            self.batch_classes = datamodule.batch_classes(datamodule.loader.epoch)

    def _networks(self, batch_idx: int) -> tuple[nn.Module, nn.Module]:
        if isinstance(self.generator, PerClass) and isinstance(self.discriminator, PerClass):
            # small networks of one class each: the choice is the host's, and it knows the order of the epoch
            label = self.batch_classes[batch_idx]
            return self.generator.of(label), self.discriminator.of(label)
        return self.generator, self.discriminator

    def failed_step(self) -> int | None:
        """The first update with a loss that is not finite; waits for the device."""
        step = int(self.first_bad)
        return step if step >= 0 else None

    def on_train_epoch_end(self) -> None:
        ranks.largest(self.first_bad)
        bad = self.failed_step()
        if bad is not None:
            raise UserError(
                f"gan={self.gan['name']}: the loss was not finite at update {bad} (epoch {self.current_epoch}, images "
                f"{self._names_of(bad)}); the last good checkpoint stands. Lower gan.optimizer.lr or use precision=32-true"
            )
        # the last epoch of gan.updates may end before its last batch
        batches = (int(self.step) - 1) % int(self.trainer.num_training_batches) + 1
        values = (ranks.averaged(self.sums) / batches).tolist()
        self.sums.zero_()
        row = dict(zip(CURVES, values, strict=True))
        self.history.append({"epoch": self.current_epoch, **row})
        self.log_dict({f"gan/{name}": value for name, value in row.items()})

    def _names_of(self, step: int) -> str:
        loader: Any = self.trainer.train_dataloader
        batches = loader.batches(step // len(loader))
        return "indices " + ", ".join(str(i) for i in batches[step % len(loader)][:8]) + ", ..."

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = self.history
        checkpoint["sums"], checkpoint["first_bad"] = self.sums, self.first_bad

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = checkpoint["history"]
        if "sums" in checkpoint:  # of an epoch that was stopped half way
            self.sums.copy_(checkpoint["sums"])
            self.first_bad.copy_(checkpoint["first_bad"])


def mismatch_weights(counts: Sequence[int]) -> Tensor:
    """`(C,)` float32: the weight of an image under the wrong label b, p_b (C - 1) / (1 - p_b), p the classes' shares.

    Wrong labels are drawn alike, so that a rare one would be called fake far more often than it is real. Weighted, each
    is as often as it is real, over images of the other classes in their shares. 1 where classes are of one size.
    """
    shares = np.asarray(counts) / sum(counts)
    return torch.from_numpy(shares * (len(shares) - 1) / (1 - shares)).float()


def judge(
    discriminator: nn.Module,
    real: Tensor,
    fake: Tensor,
    labels: Tensor,
    policies: tuple[str, ...] = (),
    wrong: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of real and of fake images of the same labels, float32, both through the augmentation; one pass or two.

    With `wrong` `(N,)`, labels that the real images do not have, their logits under those too; else none.
    """
    more, n = [] if wrong is None else [wrong], len(labels)
    if not discriminator.one_pass:
        logits = discriminator(augment(real, policies), labels, *more)
        fake_logits = discriminator(augment(fake, policies), labels)
        return logits[:n].float(), fake_logits.float(), logits[n:].float()
    both = augment(torch.cat([real, fake.to(real.dtype)]), policies).contiguous(memory_format=torch.channels_last)
    logits = discriminator(both, torch.cat([labels, labels]), *more).float()
    return logits[:n], logits[n : 2 * n], logits[2 * n :]
