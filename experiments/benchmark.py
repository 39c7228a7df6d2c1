"""Ours against what one would write instead, in ratios: python experiments/benchmark.py parts=[roof,adversarial]"""

import logging

from omegaconf import DictConfig, OmegaConf

from steeldefect.runs.verb import verb

log = logging.getLogger(__name__)


@verb("benchmark")
def main(cfg: DictConfig) -> None:
    from steeldefect.bench.parts import Bench
    from steeldefect.bench.write import write_results
    from steeldefect.runs.prepare import prepare
    from steeldefect.runs.settings import plain

    bench = Bench.of(plain(cfg), lambda replicate: prepare(OmegaConf.merge(cfg, {"replicate": replicate})))
    for part in bench.parts:
        for row in bench.rows(part):
            ratio = "" if row.ratio is None else f", ratio {row.ratio:.3g}"
            log.info("%s: %.4g %s%s", row.name, row.ours, row.unit, ratio)
        # after each, so that a part that fails takes none with it
        write_results(bench.output)
    log.info("benchmark: %s", bench.output / "README.md")


if __name__ == "__main__":
    main()
