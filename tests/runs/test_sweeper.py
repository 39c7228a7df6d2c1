"""`hydra/sweeper=grid`: the cells of a sweep are what Hydra composes, in a fraction of its time."""

import copy
import pickle
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.steeldefect_local.sweeper import Templates
from tests.conftest import ROOT

CELLS = [
    ["replicate=0", "mix=org20", "scale=smoke", "optimizer.lr=0.1"],
    ["replicate=1", "mix=org20", "scale=smoke", "optimizer.lr=0.2"],
    ["mix=org100", "replicate=1", "experiment=table3", "gan.discriminator.augment=[flip]", "+optimizer.new=1"],
    ["mix=bank1000", "dataset.scenes=null", "hydra.job.chdir=false", "quality.classifier.image_size=32"],
    [
        "mix=org20",
        "classifier@quality.classifier=small_cnn",
        "hydra.sweep.subdir=x",
        "~optimizer.momentum",
        "study='a b'",
    ],
]


@pytest.fixture
def master() -> Any:
    with initialize_config_dir(version_base=None, config_dir=str(ROOT / "conf")):
        loader = GlobalHydra.instance().config_loader()
        yield loader, loader.load_configuration("train_classifier", ["scale=cpu"], RunMode.MULTIRUN)


def plain(config: DictConfig) -> Any:
    return OmegaConf.to_container(config, resolve=False)


def test_each_cell_is_composed_as_hydra_does(master: tuple[Any, DictConfig]) -> None:
    loader, given = master
    templates = Templates(loader)
    for overrides in [*CELLS, *CELLS]:
        expected = loader.load_sweep_config(copy.deepcopy(given), list(overrides))
        found = templates.load_sweep_config(given, list(overrides))
        assert plain(found) == plain(expected)
        assert OmegaConf.is_struct(found) and OmegaConf.get_cache(found) == OmegaConf.get_cache(expected)
    # cells that differ in values alone share a composition
    assert len(templates.made) == len(CELLS) - 1


def test_a_cell_does_not_see_what_was_set_for_another(master: tuple[Any, DictConfig]) -> None:
    loader, given = master
    templates = Templates(loader)
    first = templates.load_sweep_config(given, ["gan.discriminator.augment=[flip]", "optimizer.lr=0.5"])
    first.hydra.job.num = 7
    second = templates.load_sweep_config(given, ["replicate=1"])
    assert plain(second) == plain(loader.load_sweep_config(given, ["replicate=1"]))


def test_a_misspelt_key_gets_hydras_own_words(master: tuple[Any, DictConfig]) -> None:
    loader, given = master
    with pytest.raises(ConfigCompositionException, match=r"Could not override 'optimizer\.lrr'"):
        Templates(loader).load_sweep_config(given, ["optimizer.lrr=0.1"])


def test_it_can_be_sent_to_another_process(master: tuple[Any, DictConfig]) -> None:
    loader, given = master
    # Hydra has imported its plugins once more
    templates = import_module(Templates.__module__).Templates(loader)
    expected = plain(templates.load_sweep_config(given, list(CELLS[0])))
    sent = pickle.loads(pickle.dumps(templates))
    assert plain(sent.load_sweep_config(given, list(CELLS[0]))) == expected
    assert sent.get_sources() and not hasattr(sent, "no_such_thing")


def test_every_verb_that_sweeps_uses_it() -> None:
    for verb in ("train_gan", "train_classifier", "synthesize", "evaluate_gan", "split"):
        with initialize_config_dir(version_base=None, config_dir=str(Path(ROOT) / "conf")):
            loader = GlobalHydra.instance().config_loader()
            assert loader.load_configuration(verb, [], RunMode.MULTIRUN).hydra.sweeper._target_.endswith("GridSweeper")
