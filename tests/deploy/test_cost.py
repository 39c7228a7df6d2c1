"""Costs counted from the layers themselves; only that latencies are written is tested here, not how long they are."""

import csv
from pathlib import Path

import pytest
import torch
from torch import nn

from steeldefect.deploy.cost import Timing, backbone_rows, cost_rows, flops, network, separable_layers, write_cost
from steeldefect.runs.errors import UserError


def test_flops_of_a_network_that_one_can_count_by_hand() -> None:
    class Known(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.deep = nn.Conv2d(1, 4, 3, padding=1)
            self.wise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
            self.point = nn.Conv2d(4, 8, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.point(self.wise(self.deep(x)))

    model = Known().eval()
    assert flops(model, 10) == 2 * 100 * (9 * 4 + 9 * 4 + 4 * 8)
    (layer,) = separable_layers(model, 10)
    assert layer.separate == 100 * (9 * 4 + 4 * 8) and layer.ordinary == 100 * 9 * 4 * 8
    assert layer.separate / layer.ordinary == pytest.approx(1 / 8 + 1 / 9) == pytest.approx(layer.formula)


def test_mobilenet_v2_has_the_published_size_and_17_separable_pairs() -> None:
    """Sandler et al. 2018: 3.4 M parameters and 300 M multiply-adds at 1,000 classes and 224 px, with three channels."""
    model = network({"name": "mobilenet_v2", "width": 1.0}, 1000, "meta")
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(3.5e6, rel=0.01)
    assert flops(model, 224) == pytest.approx(2 * 300e6, rel=0.02)
    layers = separable_layers(model, 224)
    assert len(layers) == 17 and {layer.kernel for layer in layers} == {3}
    # eq. 4 holds layer by layer, whatever the stride
    for layer in layers:
        assert layer.separate / layer.ordinary == pytest.approx(layer.formula)


def test_the_table_holds_every_backbone_eq_4_and_the_grid(tmp_path: Path) -> None:
    rows = list(
        cost_rows([{"name": "mobilenet_v2", "width": 1.0}, {"name": "small_cnn"}], 64, 6, [0.5, 1.0], [0.5, 1.0], None)
    )
    write_cost(rows, tmp_path / "cost.csv")
    with (tmp_path / "cost.csv").open() as file:
        found = list(csv.DictReader(file))
    sized = {(r["classifier"], r["width"], r["image_size"]): float(r["value"]) for r in found if r["name"] == "flops"}
    assert set(sized) == {
        *(("mobilenet_v2", width, size) for width in ("0.5", "1.0") for size in ("32", "64")),
        ("small_cnn", "", "64"),
    }
    assert len([r for r in found if r["name"] == "flops"]) == len(sized)
    # a quarter of the pixels, a quarter of the work (but for the last layer)
    assert sized["mobilenet_v2", "1.0", "32"] == pytest.approx(sized["mobilenet_v2", "1.0", "64"] / 4, rel=0.01)
    ratio = [float(r["value"]) for r in found if r["name"] == "separable_ratio"]
    formula = [float(r["value"]) for r in found if r["name"] == "separable_formula"]
    assert ratio[:-1] == pytest.approx(formula) and len(ratio) == 18
    assert min(ratio) < ratio[-1] < max(ratio)


def test_latencies_say_on_how_many_threads_and_runs() -> None:
    rows = {row.name: row for row in backbone_rows({"name": "small_cnn"}, 40, 6, Timing(1, 3, 1))}
    for name in ("latency_torch", "latency_onnxruntime"):
        assert rows[name].value > 0 and (rows[name].threads, rows[name].runs, rows[name].unit) == (1, 3, "s")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("cost.runs=0", "cost.runs=0: must be"),
        ("cost.classifiers=[resnet20]", "cost.classifiers=resnet20: did you mean 'resnet1"),
        ("cost.widths=[0]", r"cost.widths=\[0\]: must be"),
    ],
)
def test_bad_options_are_answered_with_key_and_value(composed, override: str, message: str) -> None:
    from steeldefect.deploy.cost import check_options
    from steeldefect.runs.settings import plain

    with pytest.raises(UserError, match=message):
        check_options(plain(composed("cost", override))["cost"])
