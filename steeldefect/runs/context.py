"""What every stage starts from: checked settings, the data set, its scenes, the split, and the ids of the stages."""

import csv
import functools
import logging
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from steeldefect.data.scenes import SceneTable, overlapping, overlapping_share, scenes_for
from steeldefect.data.sources import ImageSet, load_dataset
from steeldefect.data.splits import Split, limit_real, make_split, test_scenes_per_class
from steeldefect.runs import identities
from steeldefect.runs.identity import digest, file_sha256
from steeldefect.runs.settings import SCHEDULES, bank_count, mix_name, phase_updates, plain
from steeldefect.runs.store import Store

log = logging.getLogger(__name__)


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
        scenes = self.table.scenes if self.table else None
        return limit_real(
            self.split.train,
            self.images.labels,
            scenes,
            self.settings["real_per_class"],
            self.settings["partition_seed"],
        )

    @cached_property
    def real_counts(self) -> list[int]:
        return np.bincount(self.images.labels[self.real], minlength=len(self.images.classes)).tolist()

    @cached_property
    def gan_identity(self) -> dict[str, Any]:
        return identities.gan_identity(self.settings, self.split_id, self.precision("gan"))

    @cached_property
    def gan_id(self) -> str:
        return digest(self.gan_identity)

    @cached_property
    def bank_identity(self) -> dict[str, Any]:
        count = bank_count(self.settings, self.real_counts)
        return identities.bank_identity(self.settings, self.gan_id, self.split_id, count)

    @cached_property
    def bank_id(self) -> str | None:
        """None where the mix holds no synthetic image."""
        return digest(self.bank_identity) if self.settings["mix"]["synthetic_share"] > 0 else None

    @cached_property
    def initial_identity(self) -> dict[str, Any] | None:
        """None under phases=retrain_only."""
        updates = self.updates("initial")
        if updates == 0:
            return None
        return identities.initial_identity(
            self.settings, self.split_id, self.bank_id, updates, self.precision("classifier"), self._weights_id
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
            self._weights_id,
        )

    @cached_property
    def schedules(self) -> list[str]:
        """The names of the schedules under which this very cell results (org20: of both)."""
        own = [self.updates(phase) for phase in ("initial", "retrain")]
        same = [[self.updates(phase, name) for phase in ("initial", "retrain")] == own for name in SCHEDULES]
        return [name for name, equal in zip(SCHEDULES, same, strict=True) if equal]

    @property
    def mix(self) -> str:
        return mix_name(self.settings["mix"]["synthetic_share"])

    def updates(self, phase: str, schedule: str | None = None) -> int:
        return phase_updates(self.settings, schedule or self.settings["schedule"]["name"], phase, self.real_counts)

    def precision(self, stage: str) -> str:
        """`precision` with `auto` resolved from the machine, so that it can be hashed; stage is gan or classifier."""
        from steeldefect.runs.device import resolve_precision

        on_cpu = self.settings["classifier"]["cpu_precision"] if stage == "classifier" else "bf16-mixed"
        return resolve_precision(self.settings["precision"], self.settings["trainer"]["accelerator"], on_cpu)

    @cached_property
    def overlapping_share(self) -> float | None:
        """Share of the test images that show the surface of a training image; None where scenes are unknown."""
        return None if self.table is None else overlapping_share(self.table, self.split.train, self.split.test)

    @cached_property
    def overlapping(self) -> np.ndarray | None:
        """Which test images show the surface of a training image, bool `(n,)`; None where scenes are unknown."""
        return None if self.table is None else overlapping(self.table, self.split.train, self.split.test)

    def command(self, verb: str) -> str:
        """The command that makes what a stage of this context lacks: this one's overrides, another verb."""
        overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
        return " ".join([f"python experiments/{verb}.py", *map(shlex.quote, overrides)])

    @property
    def _weights_id(self) -> str | None:
        path = self.settings["classifier"]["weights"]
        return file_sha256(Path(path)) if path else None


def prepare(cfg: DictConfig) -> Context:
    """Check the config, load the data set, find its scenes and split it; the split's folder is written if missing."""
    settings = plain(cfg)
    root = Path(settings["artifacts"])
    images, table = _data(_frozen(settings["dataset"]), root)
    scenes = table.scenes if table else None
    split = make_split(settings["split"], settings["partition_seed"], images.labels, scenes, images.classes)
    identity = identities.split_identity(settings, images.content, table.id if table else None)
    context = Context(settings, Store(root), images, table, split, digest(identity))
    _write_split(context, identity)
    _warn_of_leaks(context)
    return context


def _frozen(part: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(part.items()))


@functools.lru_cache(maxsize=2)
def _data(dataset: tuple[tuple[str, Any], ...], root: Path) -> tuple[ImageSet, SceneTable | None]:
    """Kept between the cells of a sweep that run in one process."""
    images = load_dataset(dict(dataset), root / "cache")
    return images, scenes_for(images, dict(dataset), root)


def _write_split(context: Context, identity: dict[str, Any]) -> None:
    images, split, table = context.images, context.split, context.table
    with context.store.write("splits", identity, wait=True) as work:
        if work is None:
            return
        parts = {"train": split.train, "validation": split.validation, "test": split.test}
        rows = [
            (images.names[i], images.classes[images.labels[i]], part, "" if table is None else int(table.scenes[i]))
            for part, indices in parts.items()
            for i in indices
        ]
        with (work.folder / "split.csv").open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([("image", "class", "part", "scene"), *rows])
        work.summary |= {part: len(indices) for part, indices in parts.items()}
        work.summary["test_overlapping_share"] = context.overlapping_share
        if table is not None:
            work.summary["test_scenes"] = test_scenes_per_class(split, images.labels, table.scenes, images.classes)
            work.summary["scenes_source"] = table.source


@functools.cache
def _warn_once(message: str) -> None:
    log.warning(message)


def _warn_of_leaks(context: Context) -> None:
    share = context.overlapping_share
    if context.settings["split"]["name"] != "random":
        return
    if share is None:
        _warn_once(
            "split=random: the scenes are not known, so nobody can say whether test images overlap training ones"
        )
    elif share > 0:
        _warn_once(
            f"split=random: {share:.0%} of the test images show the surface of a training image; see split=grouped"
        )
