"""The parts of the benchmark: what each measures, kept as it is done, so that a run that was stopped goes on."""

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig

from steeldefect.bench.accuracy import accuracy_rows
from steeldefect.bench.adversarial import adversarial_rows, our_step
from steeldefect.bench.classifier import bare_step, classifier_rows, write_files
from steeldefect.bench.counting import KINDS
from steeldefect.bench.growth import growth_rows, study_rows
from steeldefect.bench.overhead import overhead_rows
from steeldefect.bench.profile import profile_rows
from steeldefect.bench.roof import DTYPES, Roof, measure_roof, roof_rows
from steeldefect.bench.timing import Row
from steeldefect.bench.verbs import side_by_side, verb_rows
from steeldefect.bench.write import PARTS, part_file
from steeldefect.data.sources import ImageSet, load_dataset
from steeldefect.runs.context import Context
from steeldefect.runs.device import (
    available_threads,
    gpu_name,
    keep_freed_memory,
    numerics,
    resolve_precision,
    torch_device,
)
from steeldefect.runs.environment import command_line, git_commit, machine, versions
from steeldefect.runs.errors import nearest, require
from steeldefect.runs.identity import digest
from steeldefect.runs.portable import without_path
from steeldefect.runs.store import read_json, write_json

PASSED_ON = ("dataset", "split", "trainer", "precision")  # overrides that verbs in processes of their own get too


@dataclass(frozen=True)
class Bench:
    settings: dict[str, Any]
    options: dict[str, Any]
    parts: list[str]
    output: Path
    device: torch.device
    context: Callable[[int], Context]

    @classmethod
    def of(cls, config: dict[str, Any], context: Callable[[int], Context]) -> "Bench":
        """From the checked config; UserError names what does not fit. The process keeps `trainer.threads`.

        context: of a replicate of the same config.
        """
        options = config["bench"]
        for part in config["parts"]:
            require(part in PARTS, f"parts={part}: {nearest(str(part), PARTS)}")
        for key, names in {"": options, "accuracy.": options["accuracy"]}.items():
            for name in names["classifiers"] or []:
                choices = options["backbones"]
                require(name in choices, f"bench.{key}classifiers={name}: {nearest(str(name), choices)}")
        for key in ("pairs", "steps", "classifier_steps", "profile_steps", "files"):
            value = options[key]
            require(isinstance(value, int) and value >= 1, f"bench.{key}={value}: must be a whole number from 1 up")
        torch.set_num_threads(available_threads(config["trainer"]["threads"]))
        # the roof is what the others are held against, so it comes first
        parts = sorted(dict.fromkeys(config["parts"]), key=list(PARTS).index)
        device = torch_device(config["trainer"]["accelerator"])
        numerics(config["trainer"])
        if device.type == "cpu":
            keep_freed_memory()  # as a run does
        return cls(config, options, parts, Path(config["output"]), device, context)

    def rows(self, part: str) -> list[Row]:
        """Measured now, or read where this commit has measured them with these options."""
        path = part_file(self.output, part)
        own = {name: self.settings[name] for name in ("gan", "classifier", "optimizer", "augment", "precision")}
        where = [str(self.device), machine(gpu_name(self.settings["trainer"]["accelerator"]))]
        key = digest([self.options, own, self.overrides, git_commit(), *where])
        if path.is_file() and not self.settings["again"]:
            kept = read_json(path)
            if kept["key"] == key:
                return [Row(**row) for row in kept["rows"]]
        rows = self._measures[part]()
        path.parent.mkdir(parents=True, exist_ok=True)
        command = without_path(command_line())  # parts are committed
        made = {"command": command, "commit": git_commit(), "machine": where[1], "versions": versions()}
        threads = {"threads": torch.get_num_threads(), "device": str(self.device)}
        write_json(path, {"key": key, "rows": [asdict(row) for row in rows], **made, **threads})
        return rows

    @property
    def _measures(self) -> dict[str, Callable[[], list[Row]]]:
        return {
            "roof": lambda: roof_rows(measure_roof(self.options["roof"], self.device, self._formats)),
            "adversarial": self._adversarial,
            "classifier": self._classifier,
            "accuracy": self._accuracy,
            "profile": self._profile,
            "overhead": lambda: overhead_rows(
                self.settings, self.classes, self.precisions, self.options, self.device, self.work / "overhead"
            ),
            "verbs": lambda: verb_rows(self.overrides, self.options, self.work / "verbs"),
            "growth": lambda: [
                *growth_rows(self.settings, self.classes, self.precisions, self.options, self.device),
                *study_rows(self.overrides, self.options, self.work / "study"),
            ],
            "side_by_side": lambda: side_by_side(self.overrides, self.options, self.work / "cells"),
        }

    def _adversarial(self) -> list[Row]:
        rows = []
        for at in self.options["adversarial"]:
            gan = {**self.settings["gan"], **at}
            rows += adversarial_rows(gan, self.classes, self.precisions[0], self.roof, self.options, self.device)
        return rows

    def _profile(self) -> list[Row]:
        rows, options, device = [], self.options, self.device
        for at in options["adversarial"]:
            step = our_step({**self.settings["gan"], **at}, self.classes, self.precisions[0], device)
            rows += profile_rows(f"adversarial_{at['image_size']}", step, options["profile_steps"], device)
        for name in options["classifiers"] or options["backbones"]:
            settings = {**self.settings, "classifier": options["backbones"][name]}
            precision = self._precision(settings["classifier"]["cpu_precision"])
            step = bare_step(settings, self.classes, precision, device)
            rows += profile_rows(f"classifier_{name}", step, options["profile_steps"], device)
        return rows

    def _classifier(self) -> list[Row]:
        files, images = self.work / "files", self.images
        shutil.rmtree(files, ignore_errors=True)
        # every k-th, so that each class keeps its share
        kept = slice(None, None, max(1, len(images.labels) // self.options["files"]))
        write_files(images.images[kept], images.labels[kept], images.classes, files)
        given, rows = (files, images.images.shape[-1], len(images.classes)), []
        for name in self.options["classifiers"] or self.options["backbones"]:
            settings = {**self.settings, "classifier": self.options["backbones"][name]}
            precision = self._precision(settings["classifier"]["cpu_precision"])
            work = self.work / "classifier"
            rows += classifier_rows(settings, given, precision, self.roof, self.options, self.device, work)
        return rows

    def _accuracy(self) -> list[Row]:
        rows = []
        for name in self.options["accuracy"]["classifiers"]:
            optimizer = {**self.settings["optimizer"], "lr": self.settings["scale"]["lr"][name]}
            settings = {**self.settings, "classifier": self.options["backbones"][name], "optimizer": optimizer}
            precision = self._precision(settings["classifier"]["cpu_precision"])
            rows += accuracy_rows(settings, self.context, precision, self.options["accuracy"], self.work / "accuracy")
        return rows

    def _precision(self, on_cpu: str) -> str:
        return resolve_precision(self.settings["precision"], self.settings["trainer"]["accelerator"], on_cpu)

    @property
    def _formats(self) -> list[str]:
        """float32, and bf16 where a run would use it: a CPU without it emulates it, hundreds of times slower."""
        return [name for name in DTYPES if name == "float32" or self._precision("bf16-mixed") != "32-true"]

    @property
    def precisions(self) -> tuple[str, str]:
        """Of the generator's training and the classifier's, as a run on this machine would resolve them."""
        return self._precision("bf16-mixed"), self._precision(self.settings["classifier"]["cpu_precision"])

    @property
    def work(self) -> Path:
        return Path(self.settings["artifacts"]).absolute() / "bench"

    @property
    def overrides(self) -> list[str]:
        """What the verbs in processes of their own are told of this command line."""
        given = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
        return [word for word in given if word.lstrip("+~").split("=")[0].split(".")[0] in PASSED_ON]

    @property
    def roof(self) -> Roof | None:
        """As the part `roof` has measured it for this output; None before."""
        path = part_file(self.output, "roof")
        if not path.is_file():
            return None
        values = {row["name"]: row["ours"] for row in read_json(path)["rows"]}
        places = {(kind, name): f"roof_{kind}_{name}" for kind in KINDS for name in DTYPES}
        return {place: 1e9 * values[name] for place, name in places.items() if name in values}

    @cached_property
    def images(self) -> ImageSet:
        return load_dataset(self.settings["dataset"], Path(self.settings["artifacts"]) / "cache")

    @property
    def classes(self) -> int:
        return len(self.images.classes)
