"""One of the processes of a distributed run: python distributed.py <artifacts> <folder for weights> <overrides>

With TERMINATED=<rank> in the environment, that process is sent SIGTERM in its second update of the generator.
"""

import os
import signal
import sys
from pathlib import Path

import torch

from steeldefect.gan import training
from steeldefect.gan.module import AdversarialModule
from steeldefect.runs import ranks
from steeldefect.runs.signals import stoppable
from tests.stages import make


def main(artifacts: str, weights: str, *overrides: str) -> None:
    save, step = training._save, AdversarialModule.training_step

    def seen(module, *rest) -> None:  # what this process ends in, whether or not it writes artifacts
        torch.save(module.state_dict(), Path(weights) / f"rank{ranks.here().rank}.pt")
        save(module, *rest)

    def terminated(module, batch, batch_idx) -> None:
        if batch_idx == 1 and os.environ["TERMINATED"] == str(ranks.here().rank):
            os.kill(os.getpid(), signal.SIGTERM)
        step(module, batch, batch_idx)

    training._save = seen
    if "TERMINATED" in os.environ:
        AdversarialModule.training_step = terminated
    with stoppable():
        for stage in ("train_gan", "train_classifier"):
            make(stage, Path(artifacts), *overrides)


if __name__ == "__main__":
    main(*sys.argv[1:])
