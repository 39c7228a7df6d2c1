"""A verb for tests of launchers: its cell 1 is killed, 2 fails, 3 takes for ever, 4 holds more than it may."""

import os
import signal
import time

from omegaconf import DictConfig

from steeldefect.runs.store import Store
from steeldefect.runs.sweep import position
from steeldefect.runs.verb import verb


@verb("split")
def main(cfg: DictConfig) -> None:
    with Store(cfg.artifacts).write("cells", {"replicate": cfg.replicate}) as work:
        if work is None:
            return
        (work.folder / "said.txt").write_text(f"{position()}{os.environ['OMP_NUM_THREADS']}")
        (work.folder / "gpu.txt").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", ""))
        if cfg.replicate == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if cfg.replicate == 2:
            raise RuntimeError("the kiln is cold")
        if cfg.replicate == 3:
            time.sleep(600)
        if cfg.replicate == 4:
            bytearray(2**45)


if __name__ == "__main__":
    main()
