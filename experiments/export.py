"""A finished cell as a file to take away: python experiments/export.py cell=046431d4a3af"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from steeldefect.runs.settings import CONF
from steeldefect.runs.verb import verb

log = logging.getLogger(__name__)


def rerun(record: Mapping[str, Any], artifacts: Path) -> str:
    from hydra import compose

    from steeldefect.deploy.rerun import GROUPS, cell_command

    choices = {group: [path.stem for path in (CONF / group).glob("*.yaml")] for group in (*GROUPS, "mix")}
    return cell_command(record, lambda overrides: compose("train_classifier", list(overrides)), choices, artifacts)


@verb("export")
def main(cfg: DictConfig) -> None:
    from steeldefect.deploy.card import card_of_record
    from steeldefect.deploy.export import FORMATS, export, find_cell, weights_of
    from steeldefect.deploy.sample import sample
    from steeldefect.runs.errors import require
    from steeldefect.runs.store import Store

    where = "the table Cells at the end of artifacts/report/<study>/report.md lists them"
    require(cfg.cell is not None, f"cell=null: give the id of a cell; {where}")
    store = Store(cfg.artifacts)
    record = find_cell(store, str(cfg.cell))
    weights = weights_of(store, record, lambda record: rerun(record, store.root))
    ending = FORMATS.get(cfg.format, "")
    output = Path(cfg.output or store.root / "exports" / f"cell-{record['id']}{ending}")
    size = card_of_record(record).image_size
    images, source, reason = sample(store, record, cfg.dataset.root, size, cfg.check.images)
    if reason:
        log.warning("the cell's test part is not at hand, so the check is made on %s: %s", source, reason)
    card = export(record, weights, cfg.format, output, images, source, cfg.check.tolerance)
    log.info(
        "checked on %(images)d images (%(source)s): largest difference of a probability %(max_difference).2g, "
        "same class on %(same_class)d",
        card.check,
    )
    if not record["trained"]:
        log.warning("this cell did not train: %.1f %% on its own training images", 100 * record["train_accuracy"])
    log.info("%s: %s", cfg.format, output)


if __name__ == "__main__":
    main()
