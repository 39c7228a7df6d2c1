"""The table of generators, from invented records."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from steeldefect.report.generators import COLUMNS, METRICS, collect_generators, write_generators
from steeldefect.report.provenance import KEPT
from steeldefect.runs.errors import UserError

MEASURE = {"draws": 10, "neighbours": 5, "feature_size": 224, "copies_images": 300, "copies_min_overlap": 0.25}
MEASURE |= {"copies_transforms": "flips", "gan_train_images": 5040, "on_test": False, "snapshot": "last", "every": 0}


def record(replicate: int, kid: float, gan: str = "edcgan", lr: float = 1e-4, **changes: Any) -> dict[str, Any]:
    """Two classes; the second has too few scenes for a KID."""
    figures = {name: [0.5, 0.7] for name in METRICS} | {"kid": [kid, None], "copies_share": [0.0, 0.1]}
    quality = MEASURE | {"classifier": {"name": "resnet18"}, "optimizer": {"lr": 0.01}} | changes.pop("quality", {})
    bank = {"filter": None, "filter_keep": 0.5} | changes.pop("bank", {})
    seen = {"augment": changes.pop("augment", [])}
    command = "python experiments/evaluate_gan.py dataset.root=/home/me/neu"
    return {
        "id": f"{gan}{replicate}{lr}{json.dumps(quality)}{json.dumps(bank)}",
        "recipe": 1,
        "dataset": "neu_cls",
        "split": "grouped",
        "scale": "cpu",
        "gan": gan,
        "replicate": replicate,
        "real_per_class": None,
        "ids": {"dataset": "da7a", "gan": f"{gan}{replicate}{lr}"},
        "config": {
            "gan": {"name": gan, "optimizer": {"lr": lr}, "discriminator": seen},
            "bank": bank,
            "quality": quality,
        },
        "classes": ["crazing", "scratches"],
        "part": "validation",
        "figures": figures,
        "set_sizes": [9, 1],
        "copies": {"threshold": 0.5, "largest": 0.25},
        "judges": {"real": {"trained": replicate != 1, "train_accuracy": 0.8}},
        "seconds": {"gan": 1800.0},
        "environment": {"command": command, "machine": "two cores", "torch": "2", "commit": "abc"},
    } | changes


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "summary.csv").open() as file:
        return list(csv.DictReader(file))


def figure(folder: Path, metric: str, gan: str = "edcgan", of: str = "all") -> dict[str, str]:
    (found,) = (row for row in rows(folder) if (row["metric"], row["gan"], row["class"]) == (metric, gan, of))
    return found


def test_means_and_t_intervals_over_replicates(tmp_path: Path) -> None:
    write_generators([record(r, kid) for r, kid in enumerate((0.2, 0.4, 0.9))], tmp_path, "generators")
    assert (tmp_path / "summary.csv").read_text().splitlines()[0] == ",".join(COLUMNS)
    found = figure(tmp_path, "kid")
    half = stats.t.ppf(0.975, 2) * stats.sem([0.2, 0.4, 0.9])
    assert float(found["mean"]) == pytest.approx(0.5) and found["n_runs"] == "3"
    assert float(found["high"]) == pytest.approx(0.5 + half, abs=1e-6)
    # a KID may be negative, a share may not
    assert float(found["low"]) == pytest.approx(0.5 - half, abs=1e-6) and float(found["low"]) < 0
    assert float(figure(tmp_path, "coverage")["mean"]) == pytest.approx(0.6)
    assert figure(tmp_path, "kid", of="crazing")["mean"] == "0.5"
    assert not [row for row in rows(tmp_path) if row["class"] == "scratches" and row["metric"] == "kid"]
    text = (tmp_path / "README.md").read_text()
    assert "0.500 [-0.396, 1.396] n=3" in text and "50.0" in text and "/home/me" not in text
    assert "Judges under 90 %" in text and "edcgan replicate 1 (real images: 0.80)" in text


def test_one_run_has_no_interval(tmp_path: Path) -> None:
    write_generators([record(0, 0.2)], tmp_path, "generators")
    found = figure(tmp_path, "kid")
    assert (found["mean"], found["low"], found["high"], found["n_runs"]) == ("0.2", "", "", "1")


def test_variants_of_a_generator_are_named_by_what_they_differ_in_and_never_mixed(tmp_path: Path) -> None:
    filtered = {"filter": "classifier", "filter_keep": 0.5}
    own = [record(0, 0.2), record(0, 0.3, lr=2e-4), record(0, 0.4, bank=filtered), record(0, 0.5, "dcgan")]
    write_generators(own, tmp_path, "generators_ablation")
    assert {row["gan"] for row in rows(tmp_path)} == {
        "dcgan",
        "edcgan optimizer.lr=0.0001",
        "edcgan optimizer.lr=0.0002",
        "edcgan filter=classifier filter_keep=0.5 optimizer.lr=0.0001",
    }
    write_generators(own, tmp_path, "generators", {"gan.optimizer.lr": 2e-4})
    assert {row["gan"] for row in rows(tmp_path)} == {"edcgan"}
    assert figure(tmp_path, "kid")["mean"] == "0.3"


def test_a_bank_drawn_straight_is_not_mixed_with_one_drawn_as_its_discriminator_saw_images(tmp_path: Path) -> None:
    now, before = {"as_seen": True}, {}
    own = [record(0, 0.2, "edcgan_plus", bank=now, augment=["flip"]), record(0, 0.3, "edcgan_plus", augment=["flip"])]
    # whose discriminator sees images as they are draws the same either way
    own += [record(0, 0.4, bank=now), record(1, 0.5, bank=before)]
    write_generators(own, tmp_path, "generators")
    assert {row["gan"] for row in rows(tmp_path)} == {"edcgan", "edcgan_plus as_seen=true", "edcgan_plus as_seen=false"}


def test_what_was_measured_in_different_ways_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"measured in different ways \(draws\)"):
        write_generators([record(0, 0.2), record(1, 0.2, quality={"draws": 3})], tmp_path, "generators")
    twice = record(0, 0.2)
    with pytest.raises(UserError, match="are both edcgan, replicate 0"):
        write_generators([twice, twice | {"id": "other"}], tmp_path, "generators")


def test_committed_records_give_the_same_table_and_notes_are_kept(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    write_generators([record(0, 0.2), record(1, 0.4)], first, "generators")
    readme = first / "README.md"
    readme.write_text(readme.read_text() + "\nWhat a reader sees on the sheets.\n")
    again = collect_generators(first)
    write_generators(again, first, "generators")
    assert readme.read_text().partition(KEPT)[2].strip() == "What a reader sees on the sheets."
    write_generators(again, second, "generators")
    assert (second / "summary.csv").read_text() == (first / "summary.csv").read_text()
    write_generators([record(1, 0.4), record(2, 0.6)], tmp_path / "third", "generators")
    assert [each["replicate"] for each in collect_generators(first, tmp_path / "third")] == [0, 1, 2]
    with pytest.raises(UserError, match="make quality"):
        collect_generators(tmp_path / "second" / "nowhere")


def test_the_table_needs_no_torch(tmp_path: Path) -> None:
    script = "import sys, steeldefect.report.generators; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "False", done.stderr
