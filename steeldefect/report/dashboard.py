"""What W&B shows of a study: a saved workspace and a report that compare mixes and classifiers."""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb_workspaces.reports.v2 as reports
import wandb_workspaces.workspaces as workspaces

log = logging.getLogger(__name__)
HEADLINE = "test/mean_pr"
MEASURES = {HEADLINE: "AP (paper)", "test/balanced_accuracy": "balanced accuracy", "test/macro_f1": "macro F1"}
COMPARED = {"mix_name": "mix", "classifier_name": "classifier", "replicate": "replicate (seed)"}
SHOWN = ("dataset_name", "split_name", "scale_name")  # runs that differ in these are never averaged
CURVES = {"train/loss": "loss", "train/accuracy": "accuracy"}
GAN_CURVES = (("gan/loss_d", "gan/loss_g"), ("gan/accuracy_real", "gan/accuracy_fake"))
SHEETS, TABLES = "gan/samples", ("test/per_class", "test/confusion")
CAVEAT = (
    "Bars are plain means over the runs that are shown, whiskers their standard error. The intervals of the study, paired "
    "and clustered by scene and by run, are in the tables of `make report`. Cells that did not train are left out; "
    "repeats of a cell count as runs."
)


def workspace(project: str, entity: str, where: dict[str, str]) -> workspaces.Workspace:
    """Panels by mix, classifier and seed, curves, sample sheets over time; `where`: the `SHOWN` keys with their values."""
    cells = [_bars(metric, key) for metric in MEASURES for key in COMPARED]
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=f"Mixes and classifiers {' '.join(where.values())}",
        sections=[
            workspaces.Section(name="Mixes, classifiers, seeds", panels=cells, is_open=True),
            workspaces.Section(name="Classifier training", panels=_curves()),
            workspaces.Section(name="Generators", panels=_generators(), is_open=True),
            workspaces.Section(name="Classes", panels=[_table(name) for name in TABLES]),
            workspaces.Section(name="Configs", panels=[reports.RunComparer(diff_only=True)]),
        ],
        runset_settings=workspaces.RunsetSettings(
            filters=workspaces.And(
                *(workspaces.Config(key) == value for key, value in where.items()),
                # generators have no such mark
                workspaces.Or(workspaces.Metric("JobType") == "gan", workspaces.Summary("trained") == True),  # noqa: E712
            ),
            groupby=[workspaces.Config("mix_name"), workspaces.Config("classifier_name")],
        ),
    )


def report(
    project: str, entity: str, where: dict[str, str], mixes: Sequence[str], classifiers: Sequence[str]
) -> reports.Report:
    """Each classifier over the mixes, then each mix over the classifiers, then the generators."""
    sections: list[Any] = [
        reports.H1("Do synthetic images help the classifier?"),
        reports.P(f"Runs with {_named(where)}."),
        reports.P(CAVEAT),
    ]
    for title, split_by, grouped_by, names in (
        ("Mixes, a classifier at a time", "classifier_name", "mix_name", classifiers),
        ("Classifiers, a mix at a time", "mix_name", "classifier_name", mixes),
    ):
        runsets = [_runset(name, where | {split_by: name, "JobType": "cell"}) for name in names]
        panels = [_bars(metric, grouped_by) for metric in MEASURES]
        sections += [reports.H2(title), reports.PanelGrid(runsets=runsets, panels=panels)]
    generators = _runset("generators", where | {"JobType": "gan"})
    sections += [reports.H2("Generators"), reports.PanelGrid(runsets=[generators], panels=_generators())]
    return reports.Report(
        project=project,
        entity=entity,
        title=f"Mixes and classifiers: {_named(where)}",
        description="Accuracy by mix, classifier and seed, and what the generators drew over time",
        blocks=sections,
        width="fluid",
    )


def specification(made: workspaces.Workspace | reports.Report) -> str:
    """The JSON that `save` would send, made without a key."""
    # wandb-workspaces has no public way to it; the version is pinned for this
    text: str = made._to_model().model_dump_json(by_alias=True, exclude_none=True)
    return json.dumps(json.loads(text), indent=1, sort_keys=True) + "\n"


def publish(settings: Mapping[str, Any], grid: Mapping[str, Sequence[str]], output: Path) -> None:
    """Write both specifications into `output`; save workspace and report to W&B where a key is set."""
    where = {key: settings[key.removesuffix("_name")]["name"] for key in SHOWN}
    project, entity = settings["logger"]["project"], settings["entity"] or ""
    made = {
        "workspace": workspace(project, entity, where),
        "report": report(project, entity, where, grid["mixes"], grid["classifiers"]),
    }
    output.mkdir(parents=True, exist_ok=True)
    for name, what in made.items():
        (output / f"{name}.json").write_text(specification(what))
        log.info("%s: %s", name, output / f"{name}.json")
    if not os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_MODE") in ("offline", "disabled"):
        log.info(
            "not published, since W&B is offline here: set WANDB_API_KEY (and entity=, your W&B user or team; unset "
            "WANDB_MODE), then `make sync` for the runs and the same command again"
        )
        return
    for name, what in made.items():
        log.info("%s: %s", name, what.save().url)


def _named(where: Mapping[str, str]) -> str:
    return ", ".join(f"{key.removesuffix('_name')} {value}" for key, value in where.items())


def _runset(name: str, where: Mapping[str, str]) -> reports.Runset:
    filters = [workspaces.Config(key) == value for key, value in where.items() if key != "JobType"]
    filters.append(workspaces.Metric("JobType") == where["JobType"])
    if where["JobType"] == "cell":
        filters.append(workspaces.Summary("trained") == True)  # noqa: E712
    # without project: with it, wandb-workspaces asks a server while it builds
    return reports.Runset(name=name, filters=filters)


def _bars(metric: str, key: str) -> reports.BarPlot:
    return reports.BarPlot(
        title=f"{MEASURES[metric]} by {COMPARED[key]}",
        metrics=[reports.SummaryMetric(metric)],
        groupby=reports.Config(key),
        groupby_aggfunc="mean",
        groupby_rangefunc="stderr",
        orientation="v",
        title_y=MEASURES[metric],
    )


def _curves() -> list[Any]:
    return [
        reports.LinePlot(
            title=f"{name} by {COMPARED[key]}",
            x="trainer/global_step",
            y=[metric],
            groupby=reports.Config(key),
            groupby_aggfunc="mean",
            groupby_rangefunc="minmax",
        )
        for metric, name in CURVES.items()
        for key in ("mix_name", "classifier_name")
    ]


def _generators() -> list[Any]:
    curves = [reports.LinePlot(title=" and ".join(names), x="epoch", y=list(names)) for names in GAN_CURVES]
    sheets = reports.MediaBrowser(
        title="samples over time, always of the same latents", media_keys=[SHEETS], mode="gallery", gallery_axis="step"
    )
    return [sheets, *curves]


def _table(name: str) -> reports.WeavePanelSummaryTable:
    return reports.WeavePanelSummaryTable(table_name=name)
