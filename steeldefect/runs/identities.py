"""The hashed part of each stage: all that determines its result, and the ids of what it is made from.

What cannot change a result is left out here and nowhere else (`LEFT_OUT`, `NEUTRAL_CELL`). `RECIPES` is raised by one where a
change of the code alters a stage's results; the report refuses to mix recipes in one table.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from steeldefect.gan.orbit import placing
from steeldefect.runs.identity import digest
from steeldefect.runs.mixes import fills_up, keeps_originals
from steeldefect.runs.settings import cell_seed

RECIPES = {"split": 1, "gan": 4, "bank": 1, "initial": 2, "cell": 2, "judge": 2, "quality": 2}
LEFT_OUT = {"gan": ("sheet_every",), "classifier": ("cpu_precision", "weights")}
# what decides which snapshot is the best; `last` and a bank without a filter are as if these keys were not there
SNAPSHOT = ("snapshot", "every", "training_draws", "feature_size")
MEASURED = (
    *("draws", "neighbours", "feature_size", "copies_images", "copies_min_overlap", "copies_transforms"),
    *("gan_train_images", "on_test"),
)
# share of the weights that a training began with, which their average may keep at its end
FIRST_WEIGHTS = 0.05
# Keys that came later, with the value under which everything is as it was before them: left out at that value, so that
# the ids of what was made before still hold. A value here is never changed.
NEUTRAL: dict[str, dict[str, Any]] = {
    "optimizer": {"lr_discriminator": None},
    "generator": {"upsampling": "deconvolution", "class_input": "concat", "noise": False},
    "discriminator": {
        "kind": "convolutional",
        "input_gain": 1.0,
        "detail_gain": 0,
        "mismatch": 0,
        "spectral_norm": False,
        "minibatch_std": False,
        "augment": [],
        "r1_gamma": 0,
        "r1_every": 16,
    },
}
# the same of cells
NEUTRAL_CELL: dict[str, dict[str, Any]] = {
    "mix": {"kind": "bank", "total": None, "seed": None},
    "cell": {"select": "last", "evaluate": "test"},
}


def split_identity(
    settings: Mapping[str, Any], content: str, scenes_id: str | None, parts: Sequence[str] | None = None
) -> dict[str, Any]:
    """`parts`: of split=given."""
    split = dict(settings["split"])
    if parts is not None:
        split["parts"] = digest(list(parts))
    if split["name"] == "random":
        scenes_id = None
    return {
        "stage": "split",
        "recipe": RECIPES["split"],
        "dataset": content,
        "scenes": scenes_id,
        "split": split,
        "seed": settings["partition_seed"],
    }


def gan_identity(
    settings: Mapping[str, Any], split_id: str, precision: str, real: Sequence[int], updates: int
) -> dict[str, Any]:
    """`real`: training images a class; `updates`: of all the generators."""
    gan = settings["gan"]
    identity = {
        "stage": "gan",
        "recipe": RECIPES["gan"],
        "split": split_id,
        "real_per_class": settings["real_per_class"],
        "gan": _without_neutral(_without(gan, LEFT_OUT["gan"])),
        "seed": settings["gan_seed"],
        "precision": precision,
        **_last_batch(real if gan["conditioning"] == "per_class" else [sum(real)], gan["batch_size"]),
        **_of_late(gan, precision, real, updates),
    }
    if settings["quality"]["snapshot"] != "last":
        chosen = {key: settings["quality"][key] for key in SNAPSHOT}
        identity["quality"] = chosen | {"recipe": RECIPES["quality"]}
        if through := seen_through(settings):
            identity["quality"]["seen_through"] = through
    return identity


def _of_late(gan: Mapping[str, Any], precision: str, real: Sequence[int], updates: int) -> dict[str, Any]:
    """What came later and changes some generators alone, named in these; the others keep their ids."""
    discriminator = gan["discriminator"]
    named: dict[str, Any] = {}
    if (decay := average_decay(gan["ema_decay"], updates)) != gan["ema_decay"]:
        named["average_decay"] = decay
    if discriminator.get("mismatch", 0) and gan["conditioning"] == "conditional" and uneven(real):
        named["mismatch"] = "by_class_size"
    if discriminator.get("r1_gamma", 0) and precision != "32-true":
        named["r1"] = "float32"
    if gan["generator"].get("class_input") == "conditional_norm" and precision != "32-true":
        named["conditional_norm"] = "format_of_the_maps"
    return named


def average_decay(decay: float, updates: int) -> float:
    """`ema_decay`, lowered where the weights that a training of so many updates began with would keep over a twentieth."""
    return decay if decay**updates <= FIRST_WEIGHTS else round(FIRST_WEIGHTS ** (1 / updates), 6)


def uneven(counts: Sequence[int]) -> bool:
    """Whether classes are of so different sizes that the discriminator's wrong labels are weighted by them."""
    return max(counts) > 1.5 * min(counts)


def seen_through(settings: Mapping[str, Any]) -> list[str]:
    """The flips and shifts that `bank.as_seen` draws a bank through: D's, those that it names, or none."""
    asked = settings["bank"]["as_seen"]
    if isinstance(asked, list):
        return placing(asked)
    return placing(settings["gan"].get("discriminator", {}).get("augment", [])) if asked else []


def folder_identity(settings: Mapping[str, Any], content: str, split_id: str) -> dict[str, Any]:
    """Of a generator outside this framework, in place of `gan_identity`: its images, and what it may have seen."""
    return {
        "stage": "gan",
        "recipe": RECIPES["gan"],
        "split": split_id,
        "real_per_class": settings["real_per_class"],
        "gan": _without(settings["gan"], ("root",)),
        "images": content,
    }


def bank_identity(
    settings: Mapping[str, Any], gan_id: str, split_id: str, count: int, judge_id: str | None = None
) -> dict[str, Any]:
    """`judge_id`: the classifier of bank.filter=classifier."""
    identity = {
        "stage": "bank",
        "recipe": RECIPES["bank"],
        "gan": gan_id,
        "split": split_id,
        "count": count,
        "seed": settings["bank"]["seed"],
    }
    if through := seen_through(settings):
        identity["seen_through"] = through
    if settings["bank"]["filter"] is not None:
        identity["filter"] = {
            "by": settings["bank"]["filter"],
            "keep": settings["bank"]["filter_keep"],
            "judge": judge_id,
        }
    return identity


def judge_identity(
    settings: Mapping[str, Any],
    split_id: str,
    role: str,
    synthetic: Mapping[str, Any] | None,
    updates: int,
    precision: str,
    weights: str | None,
    images: int,
) -> dict[str, Any]:
    """A classifier that judges images: `role` is `measure` or `filter`, `synthetic` what it is trained on if not real."""
    quality = settings["quality"]
    return {
        "stage": "judge",
        "recipe": RECIPES["judge"],
        "role": role,
        "split": split_id,
        "real_per_class": settings["real_per_class"],
        "synthetic": synthetic,
        "classifier": _without(quality["classifier"], LEFT_OUT["classifier"]) | {"weights": weights},
        "optimizer": dict(quality["optimizer"]),
        "updates": updates,
        "seed": settings["train_seed"],
        "precision": precision,
        **_last_batch([images], quality["optimizer"]["batch_size"]),
    }


def quality_identity(
    settings: Mapping[str, Any], split_id: str, gan_id: str, bank_id: str, judge_ids: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "stage": "quality",
        "recipe": RECIPES["quality"],
        "split": split_id,
        "gan": gan_id,
        "bank": bank_id,
        "judges": dict(judge_ids),
        "quality": {key: settings["quality"][key] for key in MEASURED},
    }


def initial_identity(
    settings: Mapping[str, Any],
    split_id: str,
    bank_id: str | None,
    updates: int,
    precision: str,
    weights: str | None,
    images: int,
) -> dict[str, Any]:
    """Phase `initial` is shared by all mixes that keep the originals: the mix is no part of it, `augment` is."""
    mix = {key: value for key, value in _mix(settings).items() if key != "synthetic_share"}
    return {
        "stage": "initial",
        "recipe": RECIPES["initial"],
        "split": split_id,
        "real_per_class": settings["real_per_class"],
        "synthetic": None if keeps_originals(settings["mix"]) else {"bank": bank_id, **mix},
        **_training(settings, precision, weights, images),
        "updates": updates,
    }


def cell_identity(
    settings: Mapping[str, Any],
    split_id: str,
    bank_id: str | None,
    initial_id: str | None,
    updates: int,
    precision: str,
    weights: str | None,
    images: int,
) -> dict[str, Any]:
    return {
        "stage": "cell",
        "recipe": RECIPES["cell"],
        "split": split_id,
        "real_per_class": settings["real_per_class"],
        "mix": _mix(settings),
        "bank": bank_id,
        "initial": initial_id,
        **_training(settings, precision, weights, images),
        **_unless_neutral({key: settings[key] for key in NEUTRAL_CELL["cell"]}, NEUTRAL_CELL["cell"]),
        "updates": updates,
    }


def _training(settings: Mapping[str, Any], precision: str, weights: str | None, images: int) -> dict[str, Any]:
    return {
        "classifier": _without(settings["classifier"], LEFT_OUT["classifier"]) | {"weights": weights},
        "augment": settings["augment"],
        "optimizer": dict(settings["optimizer"]),
        "seed": cell_seed(settings),
        "precision": precision,
        **_last_batch([images], settings["optimizer"]["batch_size"]),
    }


def _last_batch(images: Sequence[int], batch: int) -> dict[str, str]:
    """Named only where it is filled up: batches were not before, and what it does not touch keeps its id."""
    return {"last_batch": "filled_up"} if any(fills_up(n, batch) for n in images) else {}


def _mix(settings: Mapping[str, Any]) -> dict[str, Any]:
    return _unless_neutral(settings["mix"], NEUTRAL_CELL["mix"])


def _unless_neutral(part: Mapping[str, Any], neutral: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in part.items() if key not in neutral or value != neutral[key]}


def _without(part: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in part.items() if key not in keys}


def _without_neutral(gan: Mapping[str, Any]) -> dict[str, Any]:
    kept = {
        part: {key: value for key, value in gan[part].items() if key not in neutral or value != neutral[key]}
        for part, neutral in NEUTRAL.items()
    }
    return {**gan, **kept}
