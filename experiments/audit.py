"""Find the images that show the same surface: python experiments/audit.py dataset=neu_cls"""

import logging
import os
from pathlib import Path

from omegaconf import DictConfig

from steeldefect.runs.verb import verb

log = logging.getLogger(__name__)


@verb("audit")
def main(cfg: DictConfig) -> None:
    from steeldefect.data.audit import audit, summary_rows, write_audit
    from steeldefect.data.overlaps import OVERLAP_RECIPE, Settings
    from steeldefect.data.scenes import blind
    from steeldefect.data.sources import load_dataset
    from steeldefect.report.audit_figures import gallery, histogram
    from steeldefect.runs.identity import digest
    from steeldefect.runs.settings import plain
    from steeldefect.runs.store import Store

    config = plain(cfg)
    block = dict(config["audit"])
    threads = block.pop("threads") or os.cpu_count() or 1
    settings = Settings.of(block)
    images = load_dataset(config["dataset"], Path(config["artifacts"]) / "cache", whole=True)
    identity = {"stage": "audit", "recipe": OVERLAP_RECIPE, "dataset": images.content, "audit": block}
    store = Store(config["artifacts"])
    with store.write("scenes", identity) as work:
        if work is not None:
            made = audit(images, settings, threads)
            write_audit(made, work.folder)
            histogram(made, work.folder / "distinctness")
            gallery(made, work.folder / "gallery")
            rows = summary_rows(made)
            work.summary |= {"dataset": images.name, "classes": rows}
    identifier = digest(identity)
    rows = store.manifest("scenes", identifier)["summary"]["classes"]
    unseen = blind(rows)
    for row in rows:
        log.info(
            "%(class)s: %(images_overlapping)d of %(images)d images overlap another, %(scenes)d scenes, the largest of "
            "%(largest_scene)d; %(pairs_found)d of %(pairs_searched)d pairs; of %(null_pairs)d mirrored pairs the "
            "largest distinctness is %(null_largest)s, threshold %(threshold)s",
            row,
        )
        if row["class"] in unseen:
            log.warning(
                "%s: mirrored pairs look so much alike (a flat or clipped background?) that no overlap could stand out: "
                "nothing is known of it; name the scenes in dataset.scenes=<csv>",
                row["class"],
            )
        if row["mirrored_copies"] and row["class"] != "all" and settings.transforms == "none":
            log.warning(
                "%s: %d mirrored pairs match: the data hold mirrored copies, audit.transforms=flips links them too",
                row["class"],
                row["mirrored_copies"],
            )
    log.info("scenes %s: %s", identifier, store.folder("scenes", identifier))


if __name__ == "__main__":
    main()
