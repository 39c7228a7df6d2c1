"""How figures are taken, kept and shown; small real runs of the parts."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.benchmark import main
from steeldefect.bench.adversarial import PlainGenerator
from steeldefect.bench.growth import growth_figure
from steeldefect.bench.roof import at_the_roof
from steeldefect.bench.timing import Row, Side, alternating, apart
from steeldefect.bench.verbs import LAUNCH, run_verb, write_copies
from steeldefect.bench.write import write_results
from steeldefect.gan.networks import build_generator
from steeldefect.report.collect import collect
from steeldefect.runs.device import resolve_precision
from steeldefect.runs.errors import UserError
from steeldefect.runs.settings import plain
from tests.conftest import ROOT, Compose

SMALL = [
    *("trainer=cpu", "bench.pairs=1", "bench.steps=1", "bench.classifier_steps=2", "bench.files=12"),
    *("bench.classifiers=[small_cnn]", "bench.adversarial=[{image_size: 16, batch_size: 4}]"),
    "bench.accuracy={classifiers: [small_cnn], replicates: [0], updates: 8}",
    "bench.roof={batch: 2, maps: 8, channels: 8, matmul: 16, tries: 1}",
]


def test_sides_take_turns_and_the_ratio_is_the_median_over_pairs() -> None:
    seconds = {"ours": iter([9.0, 1.0, 2.0, 1.0]), "other": iter([9.0, 3.0, 2.0, 8.0])}
    order = []

    def side(name: str) -> float:
        order.append(name)
        return next(seconds[name])

    row = alternating("x", lambda: side("ours"), lambda: side("other"), 3)
    assert row == Row("x", 1.0, 3.0, "s", 3.0)
    assert order == ["ours", "other", "ours", "other", "other", "ours", "ours", "other"]


def _threads_and_process(offset: float) -> Side:
    return lambda: offset + torch.get_num_threads() + os.getpid() * 100


def _broken() -> Side:
    raise ValueError("no such file")


def test_a_side_apart_runs_in_a_process_of_its_own_with_as_many_threads() -> None:
    with apart(_threads_and_process, 0.25) as side:
        first, second = side(), side()
    process, threads = divmod(first, 100)
    assert first == second and process not in (0, os.getpid())
    assert threads == torch.get_num_threads() + 0.25
    with apart(_broken) as side, pytest.raises(RuntimeError, match="no such file"):
        side()


def test_the_roof_of_a_step_is_the_mix_weighted_by_its_flops() -> None:
    roof = {(kind, name): speed for name in ("float32", "bf16") for kind, speed in (("convolution", 10.0),)}
    roof |= {("transposed", "float32"): 5.0, ("transposed", "bf16"): 20.0}
    roof |= {("matmul", "float32"): 100.0, ("matmul", "bf16"): 100.0}
    flops = {"convolution": 10.0, "transposed": 10.0, "matmul": 100.0}
    assert at_the_roof(flops, roof, "32-true") == 1 + 2 + 1
    assert at_the_roof(flops, roof, "bf16-mixed") == 1 + 0.5 + 1


def test_the_plain_generator_is_ours_in_another_memory_format(tiny: Compose) -> None:
    gan = plain(tiny("train_gan"))["gan"]
    ours = build_generator(gan, 3).eval()
    other = PlainGenerator(gan["image_size"], gan["latent_dim"], 3, gan["generator"]).eval()
    other.load_state_dict(ours.state_dict())
    z, labels = torch.randn(4, gan["latent_dim"]), torch.tensor([0, 1, 2, 0])
    torch.testing.assert_close(ours(z, labels), other(z, labels))
    assert other(z, labels).is_contiguous()


def test_parts_are_measured_once_and_shown_together(
    tiny: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "bench"
    typed = f"python experiments/benchmark.py output={output}"
    monkeypatch.setattr("steeldefect.bench.parts.command_line", lambda: typed)

    def run(*overrides: str) -> dict[str, dict[str, str]]:
        main.__wrapped__(tiny("benchmark", *SMALL, f"output={output}", *overrides))
        with (output / "summary.csv").open() as file:
            return {row["name"]: row for row in csv.DictReader(file)}

    first = run("parts=[adversarial,roof]")
    # a machine without bf16 has no roof in it, and its own step stands beside the float32 one
    native = resolve_precision("auto", "cpu", "bf16-mixed") != "32-true"
    assert [name for name in first if name.startswith("roof_convolution")] == [
        *("roof_convolution_float32", "roof_convolution_bf16")[: 1 + native]
    ]
    row, at_roof = first["adversarial_step_16"], first["adversarial_step_16_roof"]
    assert list(row) == ["name", "ours", "other", "unit", "ratio"]
    assert float(row["ratio"]) == pytest.approx(float(row["other"]) / float(row["ours"]), rel=0.01)
    assert 0 < float(at_roof["ratio"]) == pytest.approx(float(at_roof["other"]) / float(row["ours"]), rel=0.01)

    # parts are committed: the command is there, and no folder of this machine
    kept = (output / "parts" / "roof.json").read_text()
    assert "benchmark.py output=bench" in kept and str(tmp_path) not in kept + (output / "README.md").read_text()

    second = run("parts=[roof,adversarial,classifier,profile,overhead]")
    assert {name: second[name] for name in first} == first
    assert {"classifier_step_small_cnn", "overhead_adversarial", "overhead_classifier"} < set(second)
    third = run("parts=[accuracy]")
    in_float32 = {name for name in third if name.endswith("_float32") and name.startswith("accuracy")}
    assert in_float32 == ({"accuracy_small_cnn_r0_float32"} if native else set())
    for name in ("accuracy_small_cnn_r0", *in_float32):
        # eight updates teach little, but a share of the test images is right
        assert 0 < float(third[name]["ours"]) < 100 and 0 < float(third[name]["other"]) < 100
        assert third[name]["unit"] == "%" and third[name]["ratio"] == ""
    shares = [float(row["ours"]) for name, row in second.items() if name.startswith("profile_adversarial_16_")]
    assert sum(shares) == pytest.approx(100, abs=0.1) and shares == sorted(shares, reverse=True)
    assert {"profile_adversarial_16_dropout", "profile_classifier_small_cnn_convolution_backward"} < set(second)
    text = (output / "README.md").read_text()
    assert "| classifier_step_small_cnn |" in text and "at commit" in text

    # what is read again: the roof, which starts no process of its own
    kept = output / "parts" / "roof.json"
    changed = json.loads(kept.read_text())
    name = changed["rows"][0]["name"]
    changed["rows"][0]["ours"] = 99.0
    kept.write_text(json.dumps(changed))
    assert run("parts=[roof]")[name]["ours"] == "99"
    assert run("parts=[roof]", "again=true")[name]["ours"] != "99"
    kept.write_text(json.dumps(changed))
    assert run("parts=[roof]", "bench.steps=2")[name]["ours"] != "99"
    kept.write_text(json.dumps(changed))
    assert run("parts=[roof]", "optimizer.batch_size=8")[name]["ours"] != "99"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("parts=[rooff]", "parts=rooff: did you mean 'roof'"),
        ("bench.pairs=0", "bench.pairs=0: must be"),
        ("bench.classifiers=[vgg]", "bench.classifiers=vgg: "),
        ("bench.accuracy.classifiers=[vgg]", "bench.accuracy.classifiers=vgg: "),
    ],
)
def test_what_does_not_fit_is_named(tiny: Compose, override: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        main.__wrapped__(tiny("benchmark", *SMALL, override))


def test_nothing_measured_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no part has been measured"):
        write_results(tmp_path)


def test_a_verb_is_timed_with_the_peak_of_its_own_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    ballast = bytearray(os.urandom(1)) * (300 << 20)
    seconds, peak = run_verb(["train_gan", "--help"], tmp_path / "log.txt")
    assert 0 < seconds < 60 and 5 < peak < 300 and len(ballast)
    with pytest.raises(UserError, match=r"status.py no_such_key=1: exit code 1"):
        run_verb(["status", "no_such_key=1"], tmp_path / "log.txt")


@pytest.mark.skipif(sys.platform != "linux", reason="a parent's death is told to its children on Linux alone")
def test_a_benchmark_that_is_killed_leaves_no_verb_behind(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    sleeper = f"import os, pathlib, time; pathlib.Path({str(note)!r}).write_text(str(os.getpid())); time.sleep(60)"
    launched = [sys.executable, str(LAUNCH), str(tmp_path / "usage"), sys.executable, "-c", sleeper]
    bench = subprocess.Popen([sys.executable, "-c", f"import subprocess; subprocess.run({launched!r})"])
    deadline = time.monotonic() + 30
    while not (note.exists() and note.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    verb = int(note.read_text())
    bench.kill()
    bench.wait()
    while _runs(verb) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(verb)


def _runs(pid: int) -> bool:
    """A zombie that nobody has waited for yet does not run."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_copies_of_records_are_so_many_runs(tmp_path: Path) -> None:
    source = ROOT / "tests" / "report" / "fixture" / "cells"
    given = collect(source)
    count = 2 * len(given.records)
    write_copies(source, count, tmp_path / "records")
    found = collect(tmp_path / "records")
    assert len(found.records) == count and not found.skipped
    assert len(found.tested) == 2 * len(given.tested) > 0
    arms = ("classifier", "mix", "schedules", "augment", "dataset", "replicate")

    def runs(records: list[dict[str, Any]]) -> set[str]:
        return {str([record[key] for key in arms]) for record in records}

    # each turn is made of replicates that no other has
    assert len(runs(found.records)) == 2 * len(runs(given.records))


def test_growth_is_drawn_by_axis(tmp_path: Path) -> None:
    rows = [Row(f"growth_adversarial_batch_{n}", n / 100, None, "s", None) for n in (8, 16)]
    assert growth_figure([*rows, Row("growth_study_cells_3", 4.0, None, "s", None)], tmp_path / "growth")
    assert "<svg" in (tmp_path / "growth.svg").read_text()
    assert not growth_figure([Row("roof_matmul_bf16", 1.0, None, "GFLOP/s", None)], tmp_path / "none")
