"""W&B through Lightning's logger: offline without a key, never a prompt, always finished."""

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, WandbLogger

from steeldefect.runs import ranks
from steeldefect.runs.mixes import mix_name

# keys whose values are paths of this machine, and what stands for one in a command that is printed
PATHS = {
    "dataset.root": "FOLDER",
    "dataset.scenes": "FILE",
    "split.parts": "FILE",
    "gan.root": "FOLDER",
    "classifier.weights": "FILE",
    "quality.classifier.weights": "FILE",
}


@contextlib.contextmanager
def wandb_run(
    settings: Mapping[str, Any], stage: str, identifier: str, name: str, tags: Sequence[str]
) -> Iterator[list[Logger]]:
    """Loggers for one artifact: none under logger=csv, else one W&B run (group = study, job_type = stage).

    The run's id is the artifact's, so a resumed try goes on in the same run. A failure is shown as one (exit code 1);
    without `finish`, the next cell of the process would be logged into this run. Under trainer=ddp only process 0 has it.
    """
    options = settings["logger"]
    if not options["wandb"] or ranks.here().rank:
        yield []
        return
    _prepare_environment(Path(settings["artifacts"]))
    import wandb

    study = settings["study"] or "single"
    run = wandb.init(
        project=options["project"],
        name=name,
        id=f"{stage}-{identifier}",
        dir=settings["artifacts"],
        group=study,
        job_type=stage,
        tags=[tag for tag in tags if tag],
        config=_shown(settings, stage) | {"artifact": identifier},
        settings=wandb.Settings(silent=True, console="off", disable_git=True, x_disable_stats=True),
        resume="allow",
        reinit="finish_previous",
    )
    try:
        yield [WandbLogger(experiment=run)]
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish(exit_code=0)


def _prepare_environment(artifacts: Path) -> None:
    """No network and nothing under $HOME unless the user has set W&B up."""
    root = (artifacts / "wandb").absolute()
    root.mkdir(parents=True, exist_ok=True)
    defaults = {
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_DATA_DIR": str(root),
        "WANDB_CACHE_DIR": str(root / "cache"),
        "WANDB_SILENT": "true",
    }
    if not os.environ.get("WANDB_API_KEY"):
        defaults["WANDB_MODE"] = "offline"
    for key, value in defaults.items():
        os.environ.setdefault(key, value)


def _shown(settings: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """The config as W&B shows it: names of groups on top, so that its table can be filtered; no paths.

    A generator belongs to no mix, classifier or schedule, and bears no name of one.
    """
    groups = ["dataset", "split", "gan", "scale", *(["classifier", "schedule"] if stage != "gan" else [])]
    names = {f"{group}_name": settings[group]["name"] for group in groups}
    if stage != "gan":
        names["mix_name"] = mix_name(settings["mix"])
    return names | public(settings)


def public(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without paths of this machine, for records and logs."""
    return _without({"artifacts", *PATHS}, settings)


def paths_given(settings: Mapping[str, Any]) -> list[str]:
    """Which of `PATHS` are set, without their values: a command that makes the same again must give them."""
    return sorted(key for key in PATHS if _value(settings, key) is not None)


def _without(hidden: Collection[str], part: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    return {
        key: _without(hidden, value, f"{prefix}{key}.") if isinstance(value, Mapping) else value
        for key, value in part.items()
        if f"{prefix}{key}" not in hidden
    }


def _value(settings: Any, key: str) -> Any:
    for name in key.split("."):
        settings = settings.get(name)
    return settings
