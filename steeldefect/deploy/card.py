"""What a model file says about itself: labels, preprocessing, provenance, and how it was checked. Needs no torch."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from steeldefect.data.decode import DECODE_RECIPE, FITS, Reading
from steeldefect.data.layouts import NEU_SIZE
from steeldefect.runs.errors import UserError
from steeldefect.runs.portable import without_path

PREFIX = "steeldefect."  # of the keys in ONNX metadata
SCHEMA = 1
STEPS = (
    "first frame, upright by its EXIF orientation, gray (transparency over white, 16 bits by their full range or bits)",
    "made square as fit says (stretch; crop: the middle; pad: by reflection), image_size by Pillow's bilinear filter, uint8",
    "in the model: resized to network_size by antialiased bilinear weights (exact sums), rounded to whole levels",
    "in the model: x / 127.5 - 1, the one channel repeated where the network has three",
)


@dataclass(frozen=True)
class Card:
    """`classifier` is the config group the network is built from; `check` the comparison made at export."""

    labels: tuple[str, ...]
    preprocessing: dict[str, Any]
    classifier: dict[str, Any]
    provenance: dict[str, Any]
    check: dict[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def image_size(self) -> int:
        """Side of the uint8 images that the model takes."""
        return int(self.preprocessing["image_size"])

    def reading(self, max_pixels: int, bits: int | None = None) -> Reading:
        """How a file becomes what the model takes; `bits`: of a camera other than that of the training images."""
        bits = self.preprocessing.get("bits") if bits is None else bits
        return Reading(
            self.image_size, max_pixels, None if bits is None else int(bits), self.preprocessing.get("fit", FITS[0])
        )

    def plain(self) -> dict[str, Any]:
        return asdict(self) | {"labels": list(self.labels)}

    def metadata(self) -> dict[str, str]:
        """As ONNX keeps it: one JSON text a key."""
        return {PREFIX + key: json.dumps(value, sort_keys=True) for key, value in self.plain().items()}


def card_of_record(record: Mapping[str, Any]) -> Card:
    """The card of a cell, from its record."""
    config = record["config"]
    provenance = {
        "cell": record["id"],
        **{key: record[key] for key in ("dataset", "split", "scale", "gan", "mix", "augment", "replicate", "trained")},
        **({"repeat": record["repeat"]} if record.get("repeat") else {}),
        "ids": record["ids"],
        "metrics": record["metrics"],
        "command": without_path(str(record["environment"]["command"])),
        **{key: record["environment"][key] for key in ("commit", "precision")},
    }
    preprocessing = {
        "image_size": config["dataset"]["image_size"] or NEU_SIZE,
        "network_size": config["classifier"]["image_size"],
        "decode_recipe": DECODE_RECIPE,
        "steps": list(STEPS),
    }
    # left out where nothing was said, as in files that were written before these keys were there
    preprocessing |= {
        key: value for key in ("bits", "fit") if (value := config["dataset"].get(key)) not in (None, FITS[0])
    }
    return Card(tuple(record["classes"]), preprocessing, dict(config["classifier"]), provenance)


def card_of(values: Mapping[str, Any], file: str) -> Card:
    """A card read back; UserError where `values` are not what `export` writes, or of another decoding."""
    try:
        card = Card(**{**values, "labels": tuple(values["labels"])})
        recipe = card.preprocessing["decode_recipe"]
        card.image_size  # noqa: B018  # raises where it is missing
    except (KeyError, TypeError, ValueError):
        raise UserError(f"model={file}: holds no labels; export it with experiments/export.py") from None
    if card.schema != SCHEMA or recipe != DECODE_RECIPE:
        raise UserError(
            f"model={file}: written for schema {card.schema} and decode recipe {recipe}, here are {SCHEMA} and "
            f"{DECODE_RECIPE}; export it again"
        )
    return card


def card_of_metadata(metadata: Mapping[str, str], file: str) -> Card:
    try:
        values = {
            key.removeprefix(PREFIX): json.loads(text) for key, text in metadata.items() if key.startswith(PREFIX)
        }
    except json.JSONDecodeError:
        values = {}
    return card_of(values, file)
