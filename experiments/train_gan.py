"""Train a generator: python experiments/train_gan.py dataset=neu_cls gan=edcgan scale=cpu"""

from omegaconf import DictConfig

from steeldefect.runs.verb import verb


@verb("train_gan")
def main(cfg: DictConfig) -> None:
    from steeldefect.gan.training import train_gan
    from steeldefect.runs.prepare import prepare

    train_gan(prepare(cfg))


if __name__ == "__main__":
    main()
