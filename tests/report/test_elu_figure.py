from pathlib import Path

from matplotlib.figure import Figure

from steeldefect.report.elu_figure import _by_layer, _times, elu_figure

ACTIVATIONS = [
    {"stack": stack, "seed": seed, "layer": layer, "place": place, "mean": 0.1 * seed, "std": 0.5**layer}
    for stack in ("one", "two")
    for seed in (0, 1)
    for layer in (1, 2, 3)
    for place in ("pre_activation", "activation")
]
STEPS = [{"step": name, "repeat": i, "seconds": 0.01 * (i + 1)} for name in ("with", "without") for i in range(3)]


def test_the_figure_is_drawn_from_rows_and_is_the_same_each_time(tmp_path: Path) -> None:
    elu_figure(ACTIVATIONS, STEPS, tmp_path / "a")
    elu_figure(ACTIVATIONS, STEPS, tmp_path / "b")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_each_stack_is_a_line_over_the_layers_and_each_step_a_bar() -> None:
    panels = Figure().subplots(1, 2)
    _by_layer(panels[0], ACTIVATIONS, "pre_activation", "std")
    assert [line.get_label() for line in panels[0].lines] == ["one", "two"]
    assert panels[0].lines[0].get_xydata().tolist() == [[1, 0.5], [2, 0.25], [3, 0.125]]
    _times(panels[1], STEPS)
    assert [bar.get_width() for bar in panels[1].patches] == [20, 20]
    assert [text.get_text() for text in panels[1].get_yticklabels()] == ["with", "without"]
