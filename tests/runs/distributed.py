"""One of the processes of a distributed run: python distributed.py <artifacts> <folder for weights> <overrides>"""

import sys
from pathlib import Path

import torch

from steeldefect.gan import training
from steeldefect.runs import ranks
from tests.stages import make


def main(artifacts: str, weights: str, *overrides: str) -> None:
    save = training._save

    def seen(module, *rest) -> None:  # what this process ends in, whether or not it writes artifacts
        torch.save(module.state_dict(), Path(weights) / f"rank{ranks.here().rank}.pt")
        save(module, *rest)

    training._save = seen
    for stage in ("train_gan", "train_classifier"):
        make(stage, Path(artifacts), *overrides)


if __name__ == "__main__":
    main(*sys.argv[1:])
