"""Train one cell, or with -m a sweep of them: python experiments/train_classifier.py -m experiment=table3 replicate=0,1"""

from omegaconf import DictConfig

from steeldefect.runs.verb import verb


@verb("train_classifier")
def main(cfg: DictConfig) -> None:
    from steeldefect.classify.training import train_cell
    from steeldefect.runs.prepare import prepare

    train_cell(prepare(cfg))


if __name__ == "__main__":
    main()
