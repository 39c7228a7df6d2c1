"""From the composed config to plain, checked values: what YAML leaves to Python."""

import math
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from steeldefect.runs.errors import UserError, nearest, require
from steeldefect.runs.mixes import check_mix

AUGMENTS = ("none", "classical")
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")
SCHEDULES = ("fixed_steps", "paper")
SELECTS = ("last", "validation")
EVALUATIONS = ("test", "validation")
LOW_DATA_BATCH = 64  # protocol, "Low data"


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The resolved config as plain dicts and lists, without Hydra's own part; checked."""
    try:
        settings = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(str(error).splitlines()[0]) from None
    assert isinstance(settings, dict)
    checked = {str(key): value for key, value in settings.items() if key != "hydra"}
    check(checked)
    return _low_data(_seeded(checked))


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
    check_mix(settings["mix"], k)
    _among("select", settings["select"], SELECTS)
    _among("evaluate", settings["evaluate"], EVALUATIONS)
    for key in ("select", "evaluate"):
        require(
            k is None or settings[key] != "validation",
            f"{key}=validation: with real_per_class={k} nothing is chosen on more than those {k} images a class",
        )
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


def _low_data(settings: dict[str, Any]) -> dict[str, Any]:
    """With few real images an epoch is a step or two, so the GAN gets a number of updates (protocol, "Low data")."""
    if settings["real_per_class"] is not None:
        gan = settings["gan"]
        updates = gan["updates"] or settings["scale"]["gan"]["low_data_updates"]
        settings["gan"] = {**gan, "updates": updates, "batch_size": min(gan["batch_size"], LOW_DATA_BATCH)}
    return settings


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
