import pytest
import torch

from steeldefect.runs.device import accelerator_kind, cpu_has_bf16, resolve_precision
from steeldefect.runs.errors import UserError


def test_auto_follows_the_cpu_and_what_was_measured_on_it() -> None:
    assert resolve_precision("auto", "cpu", "32-true") == "32-true"
    assert resolve_precision("auto", "cpu", "bf16-mixed") == ("bf16-mixed" if cpu_has_bf16() else "32-true")


def test_what_is_asked_for_is_taken() -> None:
    assert resolve_precision("32-true", "cpu", "bf16-mixed") == "32-true"
    with pytest.raises(UserError, match="precision=16-mixed: needs a GPU"):
        resolve_precision("16-mixed", "cpu", "32-true")


def test_an_absent_gpu_is_named() -> None:
    if torch.cuda.is_available():
        assert accelerator_kind("auto") == "gpu"
        return
    assert accelerator_kind("auto") == "cpu"
    with pytest.raises(UserError, match=r"trainer\.accelerator=gpu: no CUDA device"):
        accelerator_kind("gpu")
    with pytest.raises(UserError, match=r"trainer\.accelerator=tpu: choices"):
        accelerator_kind("tpu")
