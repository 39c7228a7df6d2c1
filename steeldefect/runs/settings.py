"""From the composed config to plain, checked values: what YAML leaves to Python."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from steeldefect.runs.errors import UserError, nearest, require
from steeldefect.runs.mixes import check_mix

CONF = Path(__file__).resolve().parents[2] / "conf"
AUGMENTS = ("none", "classical")
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")
PLACING = ("flip", "translation")  # those of them that move pixels and lose none
POLICIES = ("brightness", "contrast", "flip", "translation", "cutout")  # of gan.discriminator.augment
SCHEDULES = ("fixed_steps", "paper")
SELECTS = ("last", "validation")
EVALUATIONS = ("test", "validation")
REPEAT_STRIDE = 1000  # far above any replicate
LOW_DATA_BATCH = 64  # protocol, "Low data"
LOW_DATA_SHEETS = 20  # sample sheets at most, where an epoch is one update


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The resolved config as plain dicts and lists, without Hydra's own part; checked."""
    try:
        settings = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        told = str(error).splitlines()[0]
        if missing := re.search(r"'scale\.lr\.(\w+)' not found", told):
            name, scale = missing[1], OmegaConf.select(cfg, "scale.name")
            told = (
                f"optimizer.lr: conf/scale/{scale}.yaml has no rate for {name}; add one under lr, or give optimizer.lr="
            )
        raise UserError(told) from None
    assert isinstance(settings, dict)
    checked = {str(key): value for key, value in settings.items() if key != "hydra"}
    try:
        check(checked)
        return _low_data(_seeded(checked))
    except UserError:
        raise
    # a group where a value should be, or the reverse
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        what = f"{type(error).__name__}: {error}"
        raise UserError(f"the config is malformed ({what}); compare with --cfg job --resolve") from None


def check(settings: Mapping[str, Any]) -> None:
    """Every rule on the values themselves, each answered with the key, the value and what is allowed."""
    for key in ("replicate", "split_seed", "gan_seed", "train_seed", "repeat"):
        value = settings[key]
        whole = isinstance(value, int) and not isinstance(value, bool)
        require(whole and value >= 0, f"{key}={value}: must be a whole number from 0 up")
    _among("augment", settings["augment"], AUGMENTS)
    _among("precision", settings["precision"], PRECISIONS)
    _among("schedule.name", settings["schedule"]["name"], SCHEDULES)
    k = settings["real_per_class"]
    require(k is None or (isinstance(k, int) and k > 0), f"real_per_class={k}: must be null or at least 1")
    if made_elsewhere(settings["gan"]):
        _check_folder(settings)
    else:
        _check_gan(settings["gan"])
    check_mix(settings["mix"], k)
    _among("select", settings["select"], SELECTS)
    _among("evaluate", settings["evaluate"], EVALUATIONS)
    for key in ("select", "evaluate"):
        require(
            k is None or settings[key] != "validation",
            f"{key}=validation: with real_per_class={k} nothing is chosen on more than those {k} images a class",
        )
    _among("trainer.strategy", settings["trainer"]["strategy"], ("single", "ddp"))
    devices = settings["trainer"]["devices"]
    require(
        devices == 1 and not isinstance(devices, bool),
        f"trainer.devices={devices}: a process computes on one; several GPUs take trainer=ddp and torchrun, another GPU than "
        "the first CUDA_VISIBLE_DEVICES=1",
    )
    for key in ("sync_batchnorm", "deterministic"):
        _flag(f"trainer.{key}", settings["trainer"][key])
    threads = settings["trainer"]["threads"]
    require(threads is None or _is_whole(threads), f"trainer.threads={threads}: null or at least 1")
    _flag("logger.wandb", settings["logger"]["wandb"])
    _flag("keep_weights", settings["keep_weights"])
    _among("trainer.compile", settings["trainer"]["compile"], (None, "default", "reduce-overhead", "max-autotune"))
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
    _check_as_seen(settings["bank"]["as_seen"], settings["gan"])
    _among("bank.export", settings["bank"]["export"], (None, "png"))
    _among("bank.filter", settings["bank"]["filter"], (None, "classifier", "discriminator"))
    keep = settings["bank"]["filter_keep"]
    require(_number(keep) and 0 < keep <= 1, f"bank.filter_keep={keep}: must lie in (0, 1]")
    _check_quality(settings["quality"], settings["real_per_class"])


def cell_seed(settings: Mapping[str, Any]) -> int:
    """Seed of a classifier of the sweep, its own for each `repeat`; that of the first is `train_seed` itself."""
    return int(settings["train_seed"] + REPEAT_STRIDE * settings["repeat"])


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
    _among("gan.loss", gan["loss"], ("non_saturating", "minimax", "hinge"))
    optimizer = gan["optimizer"]
    _positive("gan.optimizer.lr", optimizer["lr"])
    if optimizer["lr_discriminator"] is not None:
        _positive("gan.optimizer.lr_discriminator", optimizer["lr_discriminator"])
    betas = optimizer["betas"]
    require(
        len(betas) == 2 and all(_number(beta) and 0 <= beta < 1 for beta in betas),
        f"gan.optimizer.betas={betas}: two numbers in [0, 1)",
    )
    _check_generator(gan["generator"])
    _check_discriminator(gan["discriminator"])
    decay = gan["ema_decay"]
    require(_number(decay) and 0 <= decay < 1, f"gan.ema_decay={decay}: must lie in [0, 1)")


def _check_as_seen(asked: Any, gan: Mapping[str, Any]) -> None:
    if not isinstance(asked, list):
        _flag("bank.as_seen", asked)
        return
    for policy in asked:
        _among("bank.as_seen", policy, PLACING)
    require(not made_elsewhere(gan), f"bank.as_seen={asked}: gan=folder takes the images as they are; leave it true")


def made_elsewhere(gan: Mapping[str, Any]) -> bool:
    """Whether the config group `gan` names a folder of images in place of networks (`gan=folder`)."""
    return "root" in gan


def _check_folder(settings: Mapping[str, Any]) -> None:
    """`gan=folder`: images that another generator made."""
    gan = settings["gan"]
    _whole("gan.image_size", gan["image_size"])
    taken = {"", "none", *(path.stem for path in (CONF / "gan").glob("*.yaml"))} - {"folder"}
    named = isinstance(gan["name"], str) and gan["name"] not in taken
    require(
        named, f"gan.name={gan['name']}: give the generator that made the images a name of its own, such as stylegan3"
    )
    require(
        settings["bank"]["filter"] is None,
        f"bank.filter={settings['bank']['filter']}: gan=folder takes the images as they are; filter them there, set it to null",
    )


def _check_quality(quality: Mapping[str, Any], real_per_class: int | None) -> None:
    every, snapshot = quality["every"], quality["snapshot"]
    require(every == 0 or _is_whole(every), f"quality.every={every}: must be a whole number of epochs, 0: never")
    _among("quality.snapshot", snapshot, ("last", "best_kid"))
    if snapshot == "best_kid":
        require(every > 0, "quality.snapshot=best_kid: is chosen among the epochs of quality.every=0, that is none")
        require(
            real_per_class is None,
            f"quality.snapshot=best_kid: chooses on validation images, more than real_per_class={real_per_class} allows; "
            "take quality.snapshot=last",
        )
    for key in ("draws", "training_draws", "neighbours", "feature_size", "copies_images", "copies_pairs"):
        _whole(f"quality.{key}", quality[key])
    _whole("quality.gan_train_images", quality["gan_train_images"])
    overlap = quality["copies_min_overlap"]
    require(_number(overlap) and 0 < overlap < 1, f"quality.copies_min_overlap={overlap}: must lie in (0, 1)")
    _among("quality.copies_transforms", quality["copies_transforms"], ("none", "flips", "all"))
    share = quality["collapsed_below"]
    require(_number(share) and 0 <= share <= 1, f"quality.collapsed_below={share}: must lie in [0, 1]")
    require(isinstance(quality["on_test"], bool), f"quality.on_test={quality['on_test']}: true or false")


def _check_generator(options: Mapping[str, Any]) -> None:
    _check_layers("generator", options)
    _among("gan.generator.upsampling", options["upsampling"], ("deconvolution", "resize"))
    _among("gan.generator.class_input", options["class_input"], ("concat", "conditional_norm"))
    require(
        options["class_input"] == "concat" or options["norm"] == "batch",
        f"gan.generator.norm={options['norm']}: gan.generator.class_input=conditional_norm needs norm=batch",
    )
    _from_zero("gan.generator.embedding_std", options["embedding_std"])
    _flag("gan.generator.noise", options["noise"])


def _check_discriminator(options: Mapping[str, Any]) -> None:
    _among("gan.discriminator.kind", options["kind"], ("convolutional", "projected"))
    _flag("gan.discriminator.spectral_norm", options["spectral_norm"])
    policies = options["augment"]
    require(isinstance(policies, list), f"gan.discriminator.augment={policies}: must be a list such as [contrast,flip]")
    for policy in policies:
        _among("gan.discriminator.augment", policy, POLICIES)
    require(len(set(policies)) == len(policies), f"gan.discriminator.augment={policies}: names one policy twice")
    _from_zero("gan.discriminator.r1_gamma", options["r1_gamma"])
    _whole("gan.discriminator.r1_every", options["r1_every"])
    if options["kind"] == "projected":
        size = options["feature_size"]
        require(
            _is_whole(size) and math.log2(size).is_integer() and size >= 32,
            f"gan.discriminator.feature_size={size}: must be a power of two from 32 up (the features halve it five times)",
        )
        _whole("gan.discriminator.projection_channels", options["projection_channels"])
        _whole("gan.discriminator.head_channels", options["head_channels"])
        return
    _check_layers("discriminator", options)
    _positive("gan.discriminator.input_gain", options["input_gain"])
    _from_zero("gan.discriminator.detail_gain", options["detail_gain"])
    _from_zero("gan.discriminator.mismatch", options["mismatch"])
    _flag("gan.discriminator.minibatch_std", options["minibatch_std"])
    keep = options["keep_probability"]
    require(_number(keep) and 0 < keep <= 1, f"gan.discriminator.keep_probability={keep}: must lie in (0, 1]")


def _check_layers(part: str, options: Mapping[str, Any]) -> None:
    """What generator and convolutional discriminator have alike."""
    _among(f"gan.{part}.kernel", options["kernel"], (3, 4))
    _among(f"gan.{part}.norm", options["norm"], ("batch", "none"))
    _among(f"gan.{part}.activation", options["activation"], ("relu", "elu", "leaky_relu"))
    _among(f"gan.{part}.init", options["init"], ("normal", "critical"))
    _whole(f"gan.{part}.base_channels", options["base_channels"])


def _seeded(settings: dict[str, Any]) -> dict[str, Any]:
    """Under grouped_cv a replicate is one fold of one partition (protocol, "Replicates")."""
    split = settings["split"]
    if split["name"] == "grouped_cv":
        seed, folds = settings["split_seed"], split["folds"]
        require(_is_whole(folds) and folds > 1, f"split.folds={folds}: must be a whole number from 2 up")
        require(
            split["fold"] is None,
            f"split.fold={split['fold']}: is split_seed mod {folds} (a replicate's number); give that",
        )
        partition, fold = divmod(seed, folds)
        settings["split"] = {**split, "fold": fold}
        settings["partition_seed"] = partition
    else:
        settings["partition_seed"] = settings["split_seed"]
    return settings


def _low_data(settings: dict[str, Any]) -> dict[str, Any]:
    """With few real images an epoch is a step or two, so the GAN gets a number of updates (protocol, "Low data")."""
    if settings["real_per_class"] is not None and not made_elsewhere(settings["gan"]):
        gan = settings["gan"]
        updates = gan["updates"] or settings["scale"]["gan"]["low_data_updates"]
        batch, sheets = min(gan["batch_size"], LOW_DATA_BATCH), max(gan["sheet_every"], updates // LOW_DATA_SHEETS)
        settings["gan"] = {**gan, "updates": updates, "batch_size": batch, "sheet_every": sheets}
    return settings


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _whole(key: str, value: Any) -> None:
    require(_is_whole(value), f"{key}={value}: must be a whole number from 1 up")


def _positive(key: str, value: Any) -> None:
    require(_number(value) and value > 0, f"{key}={value}: must be a number above 0")


def _from_zero(key: str, value: Any) -> None:
    require(_number(value) and value >= 0, f"{key}={value}: must be a number from 0 up")


def _flag(key: str, value: Any) -> None:
    require(isinstance(value, bool), f"{key}={value}: must be true or false")


def _among(key: str, value: Any, choices: tuple[Any, ...]) -> None:
    if value not in choices:
        names = [str(choice) for choice in choices]
        raise UserError(f"{key}={value}: {nearest(str(value), names)}")
