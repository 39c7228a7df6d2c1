"""Parameters, FLOPs and latency of the backbones: python experiments/cost.py scale=paper"""

import logging
from pathlib import Path

from omegaconf import DictConfig

from steeldefect.runs.verb import verb

log = logging.getLogger(__name__)


@verb("cost")
def main(cfg: DictConfig) -> None:
    from hydra import compose

    from steeldefect.classify.backbones import BACKBONES
    from steeldefect.deploy.cost import Timing, check_options, cost_rows, write_cost
    from steeldefect.report.multipliers import multiplier_figure, read_costs
    from steeldefect.runs.settings import plain

    options = plain(cfg)["cost"]
    check_options(options)
    timing = Timing(options["threads"], options["runs"], options["warmup"]) if options["latency"] else None
    names = options["classifiers"] or list(BACKBONES)
    classifiers = [plain(compose("cost", [f"classifier={name}", "optimizer.lr=1"]))["classifier"] for name in names]
    at = (options["image_size"], options["classes"], options["widths"], options["resolutions"])
    rows = []
    for row in cost_rows(classifiers, *at, timing):
        if row.name in ("flops", "parameters") or row.name.startswith("latency"):
            log.info(
                "%s %s %s px: %s %.4g %s", row.classifier, row.width, row.image_size, row.name, row.value, row.unit
            )
        rows.append(row)
    output = Path(cfg.output)
    write_cost(rows, output)
    drawn = multiplier_figure(read_costs(output), output.with_suffix(""))
    log.info("cost: %s%s", output, f" and {output.with_suffix('.svg')}" if drawn else "")


if __name__ == "__main__":
    main()
