"""The cost model against torch's own counter on real runs, against hand counts, and against what is known."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from steeldefect.bench.adversarial import our_step
from steeldefect.bench.classifier import bare_step
from steeldefect.bench.costmodel import Cost, cell_cost, classifier_step, gan_cost, gan_step, stage_costs
from steeldefect.bench.counting import Operation, counted
from steeldefect.runs.errors import UserError
from steeldefect.runs.settings import plain
from tests.conftest import Compose

CPU = torch.device("cpu")
NEU = [210] * 6  # the paper's training images a class


def total(call: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def test_bytes_are_those_of_inputs_and_outputs() -> None:
    a, b = torch.ones(4, 6), torch.ones(4, 6)
    (added,) = counted(lambda: a + b).operations
    assert (added.kind, added.flops, added.bytes) == ("other", 0, 3 * 24 * 4)
    assert counted(lambda: a.view(24).reshape(6, 4).t()).operations == []
    (row,) = [one for one in counted(lambda: a + b[:1].expand(4, 6)).operations if one.bytes]
    assert row.bytes == (24 + 6 + 24) * 4
    weights, gradients, moments = (torch.ones(10) for _ in range(3))
    update = torch.optim.SGD([weights], 0.1, momentum=0.9, fused=True)
    weights.grad, update.state[weights]["momentum_buffer"] = gradients, moments
    (fused,) = [one for one in counted(update.step).operations if one.bytes > 8]
    assert fused.bytes == 10 * 4 * (3 + 2)  # gradients are read
    (product,) = counted(lambda: a @ b.t()).operations
    assert (product.kind, product.flops) == ("matmul", 2 * 4 * 6 * 4)


@pytest.mark.parametrize("name", ["edcgan", "dcgan"])
def test_an_adversarial_step_counts_what_torch_counts_on_a_real_run(tiny: Compose, name: str) -> None:
    gan = plain(tiny("train_gan", f"gan={name}"))["gan"]
    step = our_step(gan, 3, "32-true", CPU)
    modelled = sum(one.flops for one in gan_step(gan, 3, gan["batch_size"], "32-true"))
    assert modelled == total(step) > 0
    kinds = counted(step).flops_by_kind()
    assert sum(kinds.values()) == modelled and min(kinds.values()) > 0


def test_a_classifier_step_counts_what_torch_counts_on_a_real_run(tiny: Compose) -> None:
    settings = plain(tiny("train_classifier", "classifier=small_cnn", "optimizer.batch_size=8"))
    modelled = classifier_step(settings["classifier"], settings["optimizer"], 3, "32-true")
    step = bare_step(settings, 3, "32-true", CPU)
    step()
    assert sum(one.flops for one in modelled) == total(step)
    # the images are made float on the way to the real step; the rest moves the same bytes
    real = sum(one.bytes for one in counted(step).operations)
    assert sum(one.bytes for one in modelled) == pytest.approx(real, rel=0.02)


def test_depthwise_layers_cost_no_more_backward_than_twice_forward(tiny: Compose) -> None:
    """torch's counter forgets the groups there, and finds many times as much."""
    settings = plain(tiny("train_classifier", "classifier=mobilenet_v2", "optimizer.batch_size=2"))
    step = bare_step(settings, 3, "32-true", CPU)
    forward = sum(one.flops for one in counted(step).operations)
    modelled = classifier_step(settings["classifier"], settings["optimizer"], 3, "32-true")
    assert sum(one.flops for one in modelled) == forward
    assert total(step) > 2 * forward


def paper(composed: Compose, classifier: str, *overrides: str) -> dict[str, Any]:
    given = ["dataset=rendered", "scale=paper", "split=random", "mix=org20", f"classifier={classifier}", *overrides]
    return plain(composed("train_classifier", *given))


@pytest.mark.parametrize(("name", "petaflop"), [("mobilenet_v2", 7.5), ("vgg16", 386)])
def test_the_paper_s_cells_cost_what_is_known(composed: Compose, name: str, petaflop: float) -> None:
    cost = cell_cost(paper(composed, name), NEU, "bf16-mixed")
    # 300 epochs of 1,260 images and 600 of 6,300
    assert cost.times * 128 == pytest.approx(300 * 1260 + 600 * 6300)
    assert cost.flops / 1e15 == pytest.approx(petaflop, rel=0.02)


def test_the_paper_s_generator_costs_what_is_known(composed: Compose) -> None:
    cost = gan_cost(paper(composed, "small_cnn"), NEU, "bf16-mixed")
    assert cost.times * 128 == 800 * 1260
    assert cost.flops / 1e15 == pytest.approx(9.5, rel=0.15)


def test_the_floor_is_the_slower_of_arithmetic_and_memory_kernel_by_kernel() -> None:
    cost = Cost("two", 3, (Operation("matmul", 100, 10), Operation("other", 0, 40)))
    assert cost.seconds(10, 10) == 3 * (10 + 4)
    assert cost.seconds(1000, 10) == pytest.approx(3 * (1 + 4))
    assert (cost.flops, cost.bytes) == (300, 150)


def test_half_precision_moves_fewer_bytes_and_computes_the_same(tiny: Compose) -> None:
    gan = plain(tiny("train_gan", "gan.image_size=64", "gan.batch_size=64"))["gan"]
    whole, half = (gan_step(gan, 6, 64, precision) for precision in ("32-true", "bf16-mixed"))
    assert sum(one.flops for one in whole) == sum(one.flops for one in half)
    assert sum(one.bytes for one in half) < 0.9 * sum(one.bytes for one in whole)


def test_the_verb_s_stages(tiny: Compose, capsys: pytest.CaptureFixture[str]) -> None:
    from experiments.floor import main

    given = ["~floor.classifiers.vgg16", "~floor.classifiers.mobilenet_v2", "~floor.classifiers.resnet19"]
    config = tiny("floor", *given, "device.tflops=1", "device.gbs=10")
    assert [cost.name for cost in stage_costs(plain(config))] == ["gan edcgan", "bank edcgan", "cell small_cnn"]
    main.__wrapped__(config)
    assert "1 TFLOP/s, 10 GB/s" in " ".join(capsys.readouterr().out.split())
    for override, words in {
        "device.tflops=0": "device.tflops=0: must be a number above 0",
        "device.gbs=null": "device.gbs=None",
        "floor.real=[]": r"floor.real=\[\]",
        "precision=auto": "precision=auto",
    }.items():
        with pytest.raises(UserError, match=words):
            main.__wrapped__(tiny("floor", *given, "device.tflops=1", "device.gbs=10", override))
