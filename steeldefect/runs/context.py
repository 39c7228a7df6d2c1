"""What every stage stands on: checked settings, the data set, its scenes, the split, and the ids of the stages."""

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.hydra_config import HydraConfig

from steeldefect.data.generated import load_generated
from steeldefect.data.scenes import SceneTable, overlapping, overlapping_share
from steeldefect.data.sources import ImageSet
from steeldefect.data.splits import Split, limit_real, scenes_per_class
from steeldefect.runs import identities
from steeldefect.runs.errors import require
from steeldefect.runs.identity import digest, file_sha256
from steeldefect.runs.mixes import (
    added_counts,
    as_run,
    bank_count,
    draws_from_bank,
    judge_updates,
    mix_name,
    phase_images,
    phase_updates,
)
from steeldefect.runs.settings import SCHEDULES, made_elsewhere
from steeldefect.runs.store import Store


@dataclass(frozen=True)
class Context:
    settings: dict[str, Any]
    store: Store
    images: ImageSet
    table: SceneTable | None
    split: Split
    split_id: str

    @cached_property
    def real(self) -> np.ndarray:
        """Indices of the real training images, `real_per_class` applied, `(n,)` int64."""
        return self._limited(self.settings["real_per_class"])

    @cached_property
    def extra(self) -> np.ndarray:
        """Indices of the other real images that mix=real_extra adds, as many as there are; `(m,)` int64."""
        mix, k = self.settings["mix"], self.settings["real_per_class"]
        if mix["kind"] != "real_extra" or mix["synthetic_share"] == 0:
            return self.real[:0]
        # with real_per_class the classes are of one size, and so is what is added to each
        return self._limited(added_counts(self.real_counts, mix)[0], skip=k)

    def _limited(self, per_class: int | None, skip: int = 0) -> np.ndarray:
        # split=random knows of no scenes, and its id does not change when an audit finds them
        by_scene = self.settings["split"]["name"] != "random"
        scenes = self.table.scenes if self.table and by_scene else None
        seed = self.settings["partition_seed"]
        return limit_real(self.split.train, self.images.labels, scenes, self.images.classes, per_class, seed, skip)

    @cached_property
    def real_counts(self) -> list[int]:
        return self._counts(self.real)

    @cached_property
    def added_counts(self) -> list[int]:
        """Images a class that the mix adds to the originals."""
        return added_counts(self.real_counts, self.settings["mix"], self._left)

    @cached_property
    def _left(self) -> list[int] | None:
        return self._counts(self.extra) if self.settings["mix"]["kind"] == "real_extra" else None

    def _counts(self, indices: np.ndarray) -> list[int]:
        return np.bincount(self.images.labels[indices], minlength=len(self.images.classes)).tolist()

    @cached_property
    def split_note(self) -> dict[str, Any]:
        """What an export of the training images says of itself."""
        settings = self.settings
        dataset, split, replicate = settings["dataset"]["name"], settings["split"]["name"], settings["replicate"]
        return {
            "training": digest(sorted(self.images.names[k] for k in self.real)),
            "split": self.split_id,
            "real_per_class": settings["real_per_class"],
            "made_by": f"dataset={dataset} split={split} replicate={replicate}",
            "images": dict(zip(self.images.classes, self.real_counts, strict=True)),
        }

    @cached_property
    def generated(self) -> ImageSet | None:
        """The images of gan=folder; None where the generator is one of this framework's."""
        gan = self.settings["gan"]
        if not made_elsewhere(gan):
            return None
        return load_generated(gan, self.settings["dataset"], self.images, self.split_note, self.store.root / "cache")

    @property
    def gan_updates(self) -> int:
        """Of all the generators of a gan that is trained here."""
        gan = self.settings["gan"]
        counts = self.real_counts if gan["conditioning"] == "per_class" else [sum(self.real_counts)]
        return int(gan["updates"] or gan["epochs"] * sum(math.ceil(n / gan["batch_size"]) for n in counts))

    @cached_property
    def gan_identity(self) -> dict[str, Any]:
        if self.generated is not None:
            return identities.folder_identity(self.settings, self.generated.content, self.split_id)
        return identities.gan_identity(
            self.settings, self.split_id, self.precision("gan"), self.real_counts, self.gan_updates
        )

    @cached_property
    def gan_id(self) -> str:
        return digest(self.gan_identity)

    @cached_property
    def bank_identity(self) -> dict[str, Any]:
        if self.generated is not None:
            return identities.bank_identity(self.settings, self.gan_id, self.split_id, len(self.generated.labels))
        count = bank_count(self.settings, self.real_counts)
        by_classifier = self.settings["bank"]["filter"] == "classifier"
        judge_id = digest(self.judge_identity("filter")) if by_classifier else None
        return identities.bank_identity(self.settings, self.gan_id, self.split_id, count, judge_id)

    @cached_property
    def bank_id(self) -> str | None:
        """None where the mix holds no image of a bank."""
        return digest(self.bank_identity) if draws_from_bank(self.settings["mix"]) else None

    def judge_identity(self, role: str, synthetic: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Of the classifier `quality.classifier`, trained on the real images or on what `synthetic` names."""
        weights = self.settings["quality"]["classifier"]["weights"]
        return identities.judge_identity(
            self.settings,
            self.split_id,
            role,
            synthetic,
            judge_updates(self.settings, self.real_counts),
            self.precision("judge"),
            weights_sha256("quality.classifier.weights", weights),
            sum(self.real_counts) if synthetic is None else synthetic["images"],
        )

    @cached_property
    def initial_identity(self) -> dict[str, Any] | None:
        """None under phases=retrain_only."""
        updates = self.updates("initial")
        if updates == 0:
            return None
        return identities.initial_identity(
            self.settings,
            self.split_id,
            self.bank_id,
            updates,
            self.precision("classifier"),
            self.weights_id,
            self.images_in("initial"),
        )

    @cached_property
    def cell_identity(self) -> dict[str, Any]:
        return identities.cell_identity(
            self.settings,
            self.split_id,
            self.bank_id,
            digest(self.initial_identity) if self.initial_identity else None,
            self.updates("retrain"),
            self.precision("classifier"),
            self.weights_id,
            self.images_in("retrain"),
        )

    @cached_property
    def schedules(self) -> list[str]:
        """The names of the schedules under which this very cell results (org20: of both)."""
        own = [self.updates(phase) for phase in ("initial", "retrain")]
        mix = self.settings["mix"]
        same = {name: [self.updates(phase, name) for phase in ("initial", "retrain")] == own for name in SCHEDULES}
        return [name for name in SCHEDULES if same[name] and as_run(mix, name) == mix]

    @property
    def mix(self) -> str:
        return mix_name(self.settings["mix"])

    def updates(self, phase: str, schedule: str | None = None) -> int:
        schedule = schedule or self.settings["schedule"]["name"]
        return phase_updates(self.settings, schedule, phase, self.real_counts, self._left)

    def images_in(self, phase: str) -> int:
        return phase_images(self.real_counts, self.settings["mix"], phase, self._left)

    def precision(self, stage: str) -> str:
        """`precision` with `auto` resolved from the machine, so that it can be hashed; stage: gan, classifier or judge."""
        from steeldefect.runs.device import resolve_precision

        settings = self.settings
        on_cpu = {
            "gan": "bf16-mixed",
            "classifier": settings["classifier"]["cpu_precision"],
            "judge": settings["quality"]["classifier"]["cpu_precision"],
        }[stage]
        return resolve_precision(settings["precision"], settings["trainer"]["accelerator"], on_cpu)

    @cached_property
    def overlapping_share(self) -> float | None:
        """Share of the test images that show the surface of a training image; None where scenes are unknown."""
        return None if self.table is None else overlapping_share(self.table, self._trained_on, self.split.test)

    @property
    def _trained_on(self) -> np.ndarray:
        return np.union1d(self.real, self.extra)

    @cached_property
    def real_scenes(self) -> dict[str, int] | None:
        """Different scenes a class among the originals; None where scenes are unknown."""
        images = self.images
        return scenes_per_class(self.real, images.labels, self.table.scenes, images.classes) if self.table else None

    @cached_property
    def overlapping(self) -> np.ndarray | None:
        """Which test images show the surface of a training image, bool `(n,)`; None where scenes are unknown."""
        return None if self.table is None else overlapping(self.table, self._trained_on, self.split.test)

    def command(self, verb: str) -> str:
        """The command that makes what a stage of this context lacks: this one's overrides, another verb."""
        overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
        return " ".join([f"python experiments/{verb}.py", *map(shlex.quote, overrides)])

    @property
    def weights_id(self) -> str | None:
        """SHA-256 of the file `classifier.weights`; None where training starts from random ones."""
        return weights_sha256("classifier.weights", self.settings["classifier"]["weights"])


def weights_sha256(key: str, path: str | None) -> str | None:
    """Of the file that a config key names; None where it names none. UserError where there is no such file."""
    if not path:
        return None
    require(Path(path).is_file(), f"{key}={path}: no such file")
    return file_sha256(Path(path))
