"""Recall and cost of the overlap audit: python experiments/validate_audit.py dataset=neu_cls"""

import logging
import os
import resource
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from steeldefect.runs.verb import verb

log = logging.getLogger(__name__)


@verb("validate_audit")
def main(cfg: DictConfig) -> None:
    from steeldefect.data.audit_trials import cut_plates, growth_trials, recall_trial, shot_again
    from steeldefect.data.sources import load_dataset
    from steeldefect.report.audit_figures import growth_figure
    from steeldefect.report.provenance import write_kept
    from steeldefect.report.tables import to_csv
    from steeldefect.runs.environment import command_line, git_commit, machine
    from steeldefect.runs.errors import require
    from steeldefect.runs.settings import plain

    config = plain(cfg)
    trials, output = config["trials"], Path(config["output"])
    threads = trials["threads"] or os.cpu_count() or 1
    images, sizes = None, trials["sizes"]
    if sizes != []:
        images = load_dataset(config["dataset"], Path(config["artifacts"]) / "cache", whole=True)
        count = len(images.names)
        sizes = sizes or [count // 4, count // 2, count]
        require(max(sizes) <= count, f"trials.sizes={sizes}: dataset={images.name} has {count} images")
    (output / "figures").mkdir(parents=True, exist_ok=True)
    parts: list[str] = []

    def written(name: str, title: str, rows: list[dict[str, Any]]) -> None:
        (output / f"{name}.csv").write_text(to_csv(list(rows[0]), rows))
        lines = [" | ".join(rows[0]), " | ".join(["---"] * len(rows[0]))]
        lines += [" | ".join(str(value) for value in row.values()) for row in rows]
        parts.append(f"## {title}\n\n" + "\n".join(f"| {line} |" for line in lines) + "\n")

    if trials["plates"]:
        rows = []
        kinds = (("as rendered", None, False), ("shot again", shot_again, False), ("periodic", None, True))
        for name, change, periodic in kinds:
            cut = cut_plates(trials["plates"], trials["crops"], trials["size"], periodic)
            rows.append(recall_trial(name, cut, change, threads))
            log.info("%s: %s", name, rows[-1])
        written("recall", "Rendered plates, whose overlaps are known", rows)
    if images is not None:
        rows = growth_trials(images, sizes, trials["bundle"], threads)
        growth_figure(rows, output / "figures" / "growth")
        written("growth", f"Time by number of images, {images.name}, {threads} threads", rows)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        parts.append(f"Peak memory of the whole run: {peak:.2f} GiB.\n\n![Seconds by images](figures/growth.svg)\n")
    made = f"Made by `{command_line()}` at commit {git_commit()}; {machine()}.\n"
    write_kept(["# The overlap audit: what it finds, what it costs\n", *parts, made], output / "README.md")
    log.info("trials: %s", output / "README.md")


if __name__ == "__main__":
    main()
