"""What width and resolution cost, from the rows of experiments/cost.py."""

from pathlib import Path

from steeldefect.report.multipliers import multiplier_figure, multipliers, read_costs

HEAD = "name,classifier,width,image_size,layer,value,unit,threads,runs\n"


def test_only_mobilenet_v2_with_several_widths_is_a_grid(tmp_path: Path) -> None:
    rows = [
        *("flops,mobilenet_v2,1.0,224,,4e6,flop,,", "flops,mobilenet_v2,0.5,224,,1e6,flop,,"),
        *("flops,mobilenet_v2,0.5,112,,25e4,flop,,", "flops,vgg16,,224,,9e9,flop,,"),
        *("latency_torch,mobilenet_v2,1.0,224,,0.018,s,1,100", "separable_ratio,mobilenet_v2,1.0,224,x,0.1,1,,"),
    ]
    (tmp_path / "cost.csv").write_text(HEAD + "\n".join(rows) + "\n")
    grid = multipliers(read_costs(tmp_path / "cost.csv"))
    assert grid == {"flops": {112: [(0.5, 0.25)], 224: [(0.5, 1.0), (1.0, 4.0)]}}
    assert multiplier_figure(read_costs(tmp_path / "cost.csv"), tmp_path / "cost")
    assert "112 px" in (tmp_path / "cost.svg").read_text() and (tmp_path / "cost.png").stat().st_size > 1000


def test_without_a_grid_nothing_is_drawn(tmp_path: Path) -> None:
    assert read_costs(tmp_path / "none.csv") == []
    assert not multiplier_figure([], tmp_path / "cost")
    assert list(tmp_path.iterdir()) == []
