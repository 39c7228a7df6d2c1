"""What tests share: the real data set where it is there, and contexts composed from the real configs."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from steeldefect.data import splits
from steeldefect.runs import prepare

pytest_plugins = ["tests.stages"]
ROOT = Path(__file__).resolve().parents[1]
# the embedded data set, small enough to be rendered in a second
TINY = ["dataset=rendered", "dataset.per_class=12", "dataset.image_size=32", "scale=smoke", "logger=csv"]

# two busy processes with two threads each are far slower than one thread each
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
# a shell starts what runs in its background with ctrl-C ignored, and some tests send it to themselves
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# what takes longest starts first, so that the processes of `make test` end together
LONGEST = ("test_verbs.py", "test_parts.py", "test_docs.py", "test_launcher.py", "test_scenes.py", "test_stop.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def neu_dir() -> Path:
    folder = Path(os.environ.get("STEELDEFECT_NEU_DIR") or ROOT.parent / "shared" / "data" / "neu-cls")
    if not folder.is_dir():
        pytest.skip("NEU-CLS is not here: set STEELDEFECT_NEU_DIR to its folder")
    return folder


Compose = Callable[..., DictConfig]


@pytest.fixture
def composed(tmp_path: Path) -> Compose:
    """The config of a verb as the command line would compose it, artifacts under `tmp_path`."""

    def make(verb: str, *overrides: str) -> DictConfig:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return compose(verb, [*overrides, f"artifacts={tmp_path / 'artifacts'}"])

    return make


@pytest.fixture
def tiny(composed: Compose) -> Compose:
    """`composed`, on the smallest rendered data set."""
    return lambda verb, *overrides: composed(verb, *TINY, *overrides)


@pytest.fixture(autouse=True)
def said_again() -> None:
    """What is said once a process is said in every test."""
    for once in (splits._warn_once, prepare._warn_once, prepare._say_once):
        once.cache_clear()
