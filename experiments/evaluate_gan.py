"""How good a generator is, class by class: python experiments/evaluate_gan.py dataset=neu_cls gan=edcgan scale=cpu"""

import logging

from omegaconf import DictConfig

from steeldefect.runs.verb import verb

log = logging.getLogger(__name__)


@verb("evaluate_gan")
def main(cfg: DictConfig) -> None:
    from steeldefect.evaluate.generator import evaluate_generator
    from steeldefect.runs.prepare import prepare

    context = prepare(cfg)
    identifier = evaluate_generator(context)
    for metric, value in sorted(context.store.manifest("quality", identifier)["summary"]["all"].items()):
        log.info("%s: %s", metric, "no class has enough images" if value is None else f"{value:.4g}")
    log.info("quality %s: %s", identifier, context.store.folder("quality", identifier))


if __name__ == "__main__":
    main()
