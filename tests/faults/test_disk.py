"""A disk that is full or read-only: one message, nothing half written taken for whole, and the next run goes on."""

import ctypes
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from steeldefect.data.decode import new_array
from steeldefect.runs.errors import explained
from steeldefect.runs.store import Store
from tests.stages import hashes, make

MS_RDONLY, MS_REMOUNT = 1, 32


def mount(place: Path, options: str, flags: int = 0) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", bytes(place), b"tmpfs", flags, options.encode()) != 0:
        pytest.skip(f"no tmpfs can be mounted here ({os.strerror(ctypes.get_errno())}): needs root")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mount(place, "size=24m")
    yield place
    ctypes.CDLL(None).umount2(bytes(place), 2)


@pytest.mark.parametrize("left", [40_000, 400_000])
def test_a_full_disk_ends_in_a_message_and_the_next_run_goes_on(
    small_disk: Path, copied: Callable[..., Path], made: Path, left: int
) -> None:
    artifacts = shutil.move(copied("gans", "banks", "cells", "initials"), small_disk / "artifacts")
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - left))
    with pytest.raises((OSError, RuntimeError)) as error:
        make("train_gan", artifacts, "trainer.checkpoint_seconds=0")
    assert "the disk is full" in str(explained(error.value, artifacts)), error.value
    assert not list(artifacts.glob("gans/[!.]*"))
    ballast.unlink()
    make("train_gan", artifacts)
    assert hashes(artifacts, "gans") == hashes(made, "gans")


def test_a_large_array_without_room_is_an_error_not_a_dead_process(small_disk: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        new_array(small_disk / "images.npy", (40, 1024, 1024))
    images = new_array(small_disk / "images.npy", (8, 1024, 1024))
    images[:] = 7
    images.flush()
    assert (np.load(small_disk / "images.npy") == 7).all()


def test_artifacts_that_are_read_only_can_be_read_and_say_so_when_written(
    small_disk: Path, copied: Callable[..., Path], made: Path
) -> None:
    artifacts = shutil.move(copied("cells"), small_disk / "artifacts")
    mount(small_disk, "size=24m", MS_REMOUNT | MS_RDONLY)
    make("train_gan", artifacts)  # finished: nothing is written
    with pytest.raises(OSError) as error:
        make("train_classifier", artifacts)
    assert "cannot be written" in str(explained(error.value, artifacts))
    with pytest.raises(OSError), Store(artifacts).write("cells", {"n": 1}):
        pass


@pytest.mark.parametrize("below", ["", "report", "report/figures"])
def test_an_output_that_a_file_is_in_the_way_of_is_named_with_its_key(tmp_path: Path, below: str) -> None:
    blocking = tmp_path / "file"
    blocking.touch()
    output = blocking / below
    with pytest.raises(OSError) as error:
        (output / "figures").mkdir(parents=True)
    said = str(explained(error.value, tmp_path / "artifacts", output))
    assert said.startswith(f"output={output}: cannot be written") and str(error.value.filename) in said


def test_what_cannot_be_read_is_not_said_of_the_artifacts(tmp_path: Path) -> None:
    image = tmp_path / "images" / "a.bmp"
    said = str(explained(PermissionError(errno.EACCES, "Permission denied", str(image)), tmp_path / "artifacts", None))
    assert said.startswith(f"{image}: cannot be read or written")
    missing = FileNotFoundError(errno.ENOENT, "No such file or directory", str(image))
    assert explained(missing, tmp_path / "artifacts", tmp_path / "report") is None
