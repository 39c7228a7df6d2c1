"""A W&B workspace and report of mixes and classifiers: python experiments/dashboard.py dataset=neu_cls scale=cpu"""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from steeldefect.runs.verb import verb

EXPERIMENTS = Path(__file__).resolve().parents[1] / "conf" / "experiment"


@verb("dashboard")
def main(cfg: DictConfig) -> None:
    from steeldefect.report.write import declared
    from steeldefect.runs.errors import UserError
    from steeldefect.runs.settings import plain

    try:
        from steeldefect.report.dashboard import publish
    except ModuleNotFoundError as error:
        if error.name != "wandb_workspaces":
            raise
        raise UserError("wandb-workspaces is missing: pip install -c constraints.txt -e '.[train,dashboard]'") from None

    settings = plain(cfg)
    grid = {}
    for key, study, swept in (("mixes", "table2", "mix"), ("classifiers", "table3", "classifier")):
        params = OmegaConf.load(EXPERIMENTS / f"{study}.yaml").hydra.sweeper.params
        grid[key] = settings["grid"][key] or declared(params, swept)
    publish(settings, grid, Path(cfg.output))


if __name__ == "__main__":
    main()
