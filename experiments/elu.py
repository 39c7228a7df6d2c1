"""Examine the paper's claims about ELU (self-normalising, cheaper without BN): python experiments/elu.py scale=cpu"""

import csv
import logging
from pathlib import Path

from omegaconf import DictConfig

from steeldefect.runs.verb import verb

log = logging.getLogger(__name__)


@verb("elu")
def main(cfg: DictConfig) -> None:
    import numpy as np
    import torch

    from steeldefect.data.datamodule import to_float
    from steeldefect.data.resize import resize
    from steeldefect.gan.activations import activation_rows, step_rows, summary
    from steeldefect.report.elu_figure import elu_figure
    from steeldefect.runs.device import accelerator_kind, available_threads
    from steeldefect.runs.prepare import prepare

    context = prepare(cfg)
    settings, options = context.settings, context.settings["elu"]
    torch.set_num_threads(available_threads(settings["trainer"]["threads"]))
    device = "cuda" if accelerator_kind(settings["trainer"]["accelerator"]) == "gpu" else "cpu"
    images, labels = context.images.images[context.real], context.images.labels[context.real]
    # in turn from each class, so that a small batch holds them all
    rank = np.array([np.count_nonzero(labels[:i] == label) for i, label in enumerate(labels)])
    chosen = np.lexsort((labels, rank))[: options["images"]]
    batch = to_float(resize(images[chosen], settings["gan"]["image_size"])).to(device)
    batch_labels = torch.from_numpy(labels[chosen].astype(np.int64)).to(device)
    classes = len(context.images.classes)
    gan, precision = settings["gan"], context.precision("gan")
    activations = activation_rows(gan, classes, batch, batch_labels, range(options["seeds"]))
    steps = step_rows(gan, classes, batch, batch_labels, options["repeats"], precision)
    output = Path(settings["output"])
    output.mkdir(parents=True, exist_ok=True)
    for name, rows in (("activations", activations), ("steps", steps)):
        with (output / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    elu_figure(activations, steps, output / "elu")
    for line in summary(activations, steps):
        log.info("%s", line)
    log.info("%s: activations.csv, steps.csv, elu.svg, elu.png", output)


if __name__ == "__main__":
    main()
