"""From the composed config to plain, checked values: what YAML leaves to Python."""

import math
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from steeldefect.runs.errors import UserError, nearest, require

AUGMENTS = ("none", "classical")
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")
SCHEDULES = ("fixed_steps", "paper")
ORG20_SHARE = 0.8  # paper: section 4.3, the winning mix; its updates are the budget of schedule=fixed_steps


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The resolved config as plain dicts and lists, without Hydra's own part; checked."""
    try:
        settings = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(str(error).splitlines()[0]) from None
    assert isinstance(settings, dict)
    checked = {str(key): value for key, value in settings.items() if key != "hydra"}
    try:
        check(checked)
        return _seeded(checked)
    except UserError:
        raise
    # a group where a value should be, or the reverse
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        what = f"{type(error).__name__}: {error}"
        raise UserError(f"the config is malformed ({what}); compare with --cfg job --resolve") from None


def check(settings: Mapping[str, Any]) -> None:
    """Every rule on the values themselves, each answered with the key, the value and what is allowed."""
    for key in ("replicate", "split_seed", "gan_seed", "train_seed"):
        value = settings[key]
        require(isinstance(value, int) and value >= 0, f"{key}={value}: must be a whole number from 0 up")
    _among("augment", settings["augment"], AUGMENTS)
    _among("precision", settings["precision"], PRECISIONS)
    _among("schedule.name", settings["schedule"]["name"], SCHEDULES)
    k = settings["real_per_class"]
    require(k is None or (isinstance(k, int) and k > 0), f"real_per_class={k}: must be null or at least 1")
    _check_gan(settings["gan"])
    share = settings["mix"]["synthetic_share"]
    require(_number(share) and 0 <= share <= 1, f"mix.synthetic_share={share}: must lie in [0, 1]")
    _among("mix.balance", settings["mix"]["balance"], ("real", "uniform"))
    optimizer = settings["optimizer"]
    _positive("optimizer.lr", optimizer["lr"])
    momentum = optimizer["momentum"]
    require(_number(momentum) and 0 <= momentum < 1, f"optimizer.momentum={momentum}: must lie in [0, 1)")
    _whole("optimizer.batch_size", optimizer["batch_size"])
    for phase in ("initial", "retrain"):
        if settings["phases"][phase] is not None:
            _whole(f"phases.{phase}.epochs", settings["phases"][phase]["epochs"])
            updates = settings["phases"][phase]["updates"]
            require(updates is None or _is_whole(updates), f"phases.{phase}.updates={updates}: null or at least 1")
    count = settings["bank"]["count"]
    require(isinstance(count, int) and count >= 0, f"bank.count={count}: must be a whole number from 0 up")
    _among("bank.export", settings["bank"]["export"], (None, "png"))


def _check_gan(gan: Mapping[str, Any]) -> None:
    size = gan["image_size"]
    require(
        isinstance(size, int) and size >= 8 and math.log2(size).is_integer(),
        f"gan.image_size={size}: must be a power of two from 8 up (4x4 doubled by each deconvolution)",
    )
    for key in ("latent_dim", "epochs", "batch_size", "sheet_every"):
        _whole(f"gan.{key}", gan[key])
    require(gan["updates"] is None or _is_whole(gan["updates"]), f"gan.updates={gan['updates']}: null or at least 1")
    _among("gan.conditioning", gan["conditioning"], ("conditional", "per_class"))
    _among("gan.loss", gan["loss"], ("non_saturating", "minimax"))
    _positive("gan.optimizer.lr", gan["optimizer"]["lr"])
    betas = gan["optimizer"]["betas"]
    require(
        len(betas) == 2 and all(_number(beta) and 0 <= beta < 1 for beta in betas),
        f"gan.optimizer.betas={betas}: two numbers in [0, 1)",
    )
    keep = gan["discriminator"]["keep_probability"]
    require(_number(keep) and 0 < keep <= 1, f"gan.discriminator.keep_probability={keep}: must lie in (0, 1]")
    for part in ("generator", "discriminator"):
        _among(f"gan.{part}.kernel", gan[part]["kernel"], (3, 4))
        _among(f"gan.{part}.norm", gan[part]["norm"], ("batch", "none"))
        _among(f"gan.{part}.activation", gan[part]["activation"], ("relu", "elu", "leaky_relu"))
        _among(f"gan.{part}.init", gan[part]["init"], ("normal", "critical"))
        _whole(f"gan.{part}.base_channels", gan[part]["base_channels"])
    std = gan["generator"]["embedding_std"]
    require(_number(std) and std >= 0, f"gan.generator.embedding_std={std}: must be a number from 0 up")
    decay = gan["ema_decay"]
    require(_number(decay) and 0 <= decay < 1, f"gan.ema_decay={decay}: must lie in [0, 1)")


def _seeded(settings: dict[str, Any]) -> dict[str, Any]:
    """Under grouped_cv a replicate is one fold of one partition (protocol, "Replicates")."""
    split = settings["split"]
    if split["name"] == "grouped_cv":
        partition, fold = divmod(settings["split_seed"], split["folds"])
        settings["split"] = {**split, "fold": fold}
        settings["partition_seed"] = partition
    else:
        settings["partition_seed"] = settings["split_seed"]
    return settings


def mix_name(synthetic_share: float) -> str:
    """`org20` for a synthetic share of 0.8: the paper names a mix after the share of originals."""
    return f"org{round(100 * (1 - synthetic_share), 6):g}"


def mix_counts(real: list[int], synthetic_share: float, balance: str) -> list[int]:
    """Synthetic images a class beside `real` images a class (paper: Table 2).

    Below a share of 1, n_c x s / (1 - s), rounded; at 1, 8000/1260 x all real, shared out by largest remainder.
    `balance=uniform` gives the same total, filling up the smaller classes first.
    """
    n = sum(real)
    if synthetic_share == 1:
        counts = _shared_out(round(n * 8000 / 1260), real if balance == "real" else [1] * len(real))
    else:
        ratio = synthetic_share / (1 - synthetic_share)
        counts = [round(n_c * ratio) for n_c in real]
        if balance == "uniform":
            counts = _filled_up(real, sum(counts))
    return counts


def _shared_out(total: int, weights: list[int]) -> list[int]:
    exact = [total * weight / sum(weights) for weight in weights]
    counts = [math.floor(value) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda c: (counts[c] - exact[c], c))
    for c in by_remainder[: total - sum(counts)]:
        counts[c] += 1
    return counts


def _filled_up(real: list[int], total: int) -> list[int]:
    level = next(x for x in range(max(real) + total, -1, -1) if sum(max(0, x - n) for n in real) <= total)
    counts = [max(0, level - n) for n in real]
    for c in sorted(range(len(real)), key=lambda c: (real[c] > level, c))[: total - sum(counts)]:
        counts[c] += 1
    return counts


def phase_updates(settings: Mapping[str, Any], schedule: str, phase: str, real: list[int]) -> int:
    """Updates of one phase of one mix; 0 where the phase is left out.

    schedule=paper: epochs x batches of the mix, last partial batch kept (protocol, "Updates"), or, where
    `phases.<phase>.updates` gives org20's budget, that budget in the same proportion.
    schedule=fixed_steps: every mix gets org20's.
    """
    given = settings["phases"][phase]
    if given is None:
        return 0
    batch, share = settings["optimizer"]["batch_size"], settings["mix"]["synthetic_share"]
    if schedule == "fixed_steps":
        share = ORG20_SHARE
    batches = math.ceil(_phase_images(real, share, phase) / batch)
    if given["updates"] is None:
        return int(given["epochs"] * batches)
    reference = math.ceil(_phase_images(real, ORG20_SHARE, phase) / batch)
    return max(1, round(given["updates"] * batches / reference))


def _phase_images(real: list[int], share: float, phase: str) -> int:
    originals = 0 if share == 1 else sum(real)
    if phase == "initial" and originals:
        return originals
    return originals + sum(mix_counts(real, share, "real"))


def bank_count(settings: Mapping[str, Any], real: list[int]) -> int:
    """Images in the bank: `bank.count`, or more where the largest class of org0 or of this mix needs it."""
    mix = settings["mix"]
    needed = max(mix_counts(real, 1.0, "real") + mix_counts(real, mix["synthetic_share"], mix["balance"]))
    return max(settings["bank"]["count"], len(real) * needed)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _whole(key: str, value: Any) -> None:
    require(_is_whole(value), f"{key}={value}: must be a whole number from 1 up")


def _positive(key: str, value: Any) -> None:
    require(_number(value) and value > 0, f"{key}={value}: must be a number above 0")


def _among(key: str, value: Any, choices: tuple[Any, ...]) -> None:
    if value not in choices:
        names = [str(choice) for choice in choices]
        raise UserError(f"{key}={value}: {nearest(str(value), names)}")
