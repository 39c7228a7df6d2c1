"""Cost and state of a study, from manifests and records alone."""

import json
import os
import socket
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from steeldefect.report.costs import Costs, span
from steeldefect.report.plan import Plan, Planned
from steeldefect.report.status import read, tables
from steeldefect.report.terminal import show


def classifier(name: str = "small_cnn") -> dict[str, Any]:
    return {"name": name, "image_size": 64}


def cell(updates: int, name: str = "small_cnn", stage: str = "cell", **more: Any) -> dict[str, Any]:
    shared = {"optimizer": {"batch_size": 64}, "augment": "none", "precision": "32-true"}
    return {"stage": stage, "classifier": classifier(name), "updates": updates, **shared, **more}


def gan(**more: Any) -> dict[str, Any]:
    own = {"name": "edcgan", "image_size": 64, "batch_size": 64, "conditioning": "conditional", "updates": None}
    return {"stage": "gan", "precision": "bf16-mixed", "gan": own | {"epochs": 10} | more}


def record(seconds: float, seconds_initial: float, name: str = "small_cnn") -> dict[str, Any]:
    return {
        "config": {"classifier": classifier(name), "optimizer": {"batch_size": 64}, "augment": "none"},
        "environment": {"precision": "32-true"},
        "updates": {"initial": 10, "retrain": 100},
        "cost": {"seconds": seconds, "seconds_initial": seconds_initial},
    }


def note(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    root = tmp_path / "artifacts"
    note(root / "gans" / "g0" / "manifest.json", {"identity": gan(), "made": {"seconds": 50.0}})
    note(root / "banks" / "b0" / "manifest.json", {"identity": {"stage": "bank", "count": 100}, "made": {"seconds": 5}})
    note(root / "cells" / "c0" / "record.json", record(200.0, 20.0))
    note(root / "cells" / "c0" / "manifest.json", {})
    # begun half a minute ago
    started = (datetime.now(UTC) - timedelta(seconds=30)).isoformat(timespec="seconds")
    running = {"host": socket.gethostname(), "pid": os.getpid(), "started": started, "identity": cell(100)}
    note(root / "cells" / ".c1.partial" / "running.json", running)
    return root


def test_costs_are_those_of_the_same_kind_by_the_unit(artifacts: Path, tmp_path: Path) -> None:
    costs = Costs(artifacts)
    assert costs.estimate(cell(300)) == pytest.approx(600)
    assert costs.estimate(cell(10, stage="initial")) == pytest.approx(20)
    assert costs.estimate(gan(epochs=20)) == pytest.approx(100)
    assert costs.estimate({"stage": "bank", "count": 1000}) == pytest.approx(50)
    # an epoch of few images is short: by the update, where the updates of both are known
    note(
        artifacts / "gans" / "g0" / "manifest.json",
        {"identity": gan(), "made": {"seconds": 50.0}, "summary": {"updates": 200}},
    )
    assert Costs(artifacts).estimate(gan(epochs=20), 100) == pytest.approx(25)
    assert costs.estimate(gan(epochs=20), 100) == pytest.approx(100)
    slow = gan() | {"precision": "32-true"}
    for other in (cell(300, "vgg16"), cell(300, precision="bf16-mixed"), slow, gan(updates=50), gan(name="dcgan")):
        assert costs.estimate(other) is None
    # committed results fill in what this store has not seen, and nothing else
    upstream = {"upstream": {"gan": {"seconds": 7.0}, "bank": {"seconds": 9.0}}}
    lines = [record(400.0, 40.0), record(900.0, 90.0, "vgg16"), {"config": {}}]
    lines[1]["config"] |= {"gan": gan(name="dcgan")["gan"], "bank": {"count": 900}}
    results = tmp_path / "results" / "table3"
    note(results / "unused", {})
    lines[1] |= {"counts": {"real": 630}}
    (results / "records.jsonl").write_text("\n".join(json.dumps(x) for x in (lines[0], lines[1] | upstream, lines[2])))
    made = {"config": gan(name="projected"), "seconds": {"gan": 9.0}, "precision": "32-true", "updates": 100}
    (results / "generators.jsonl").write_text(json.dumps(made))
    both = Costs(artifacts, tmp_path / "results")
    # ten epochs of 630 images in batches of 64
    assert both.estimate(gan(name="dcgan"), 200) == pytest.approx(14)
    assert both.estimate(gan(name="projected") | {"precision": "32-true"}, 50) == pytest.approx(4.5)
    assert both.estimate(gan(name="projected") | {"precision": "32-true"}) == pytest.approx(9)
    assert both.estimate(cell(300)) == pytest.approx(600)
    assert both.estimate(cell(300, "vgg16")) == pytest.approx(2700)
    assert both.estimate(gan(name="dcgan")) == pytest.approx(7)
    assert Costs(tmp_path, tmp_path / "results").estimate({"stage": "bank", "count": 500}) == pytest.approx(5)


def planned(identifier: str, replicate: int, mix: str = "org20", bank: str = "b0", **more: Any) -> Planned:
    stages = {
        ("gans", bank.replace("b", "g")): gan(),
        ("banks", bank): {"stage": "bank", "count": 100, "gan": bank.replace("b", "g")},
        ("initials", f"i{replicate}"): cell(10, stage="initial"),
        ("cells", identifier): cell(100, **more),
    }
    return Planned(("small_cnn", mix, "edcgan", "none", "all", "fixed_steps", "0.01"), replicate, stages)


def test_what_is_shared_is_counted_and_made_once(artifacts: Path) -> None:
    cells = [planned("c0", 0), planned("c1", 0, "org50"), planned("c2", 1, bank="b1"), planned("c3", 1, "org50", "b1")]
    plan = Plan(cells, read(artifacts), Costs(artifacts))
    assert [plan.state(c.cell) for c in cells] == ["done", "running", "missing", "missing"]
    needed = plan.needed()
    assert ("gans", "g0") not in needed and ("banks", "b0") not in needed and ("cells", "c0") not in needed
    assert needed.count(("gans", "g1")) == needed.count(("initials", "i1")) == 1 and len(needed) == 7
    seconds, unknown = plan.left(needed)
    # the generator 50, its bank 5, two initial phases 20, two cells 200, and of the one that runs what is left
    assert unknown == 0 and seconds == pytest.approx(50 + 5 + 40 + 400 + 170, abs=3)
    text = StringIO()
    for table in plan.tables():
        show(table, Console(file=text, width=160))
    lines = [line for line in text.getvalue().splitlines() if "org20" in line]
    assert [part.strip() for part in lines[0].strip("|").split("|")][:9] == [
        *("small_cnn", "org20", "0,1", "1", "0", "0", "0", "1", "3 min")
    ]
    assert plan.total().startswith("7 stages to make")


def test_a_bank_that_is_there_needs_no_generator_and_unknown_is_said(artifacts: Path) -> None:
    unknown = planned("c9", 0, name="vgg16")
    plan = Plan([unknown], [row for row in read(artifacts) if row.kind != "gans"], Costs(artifacts))
    assert plan.needed() == [("initials", "i0"), ("cells", "c9")]
    assert "unknown" in plan.total()


def test_status_says_how_long_what_is_begun_will_take(artifacts: Path) -> None:
    text = StringIO()
    for table in tables(read(artifacts), Costs(artifacts)):
        show(table, Console(file=text, width=160))
    line = next(line for line in text.getvalue().splitlines() if "c1" in line)
    assert line.strip("|").split("|")[-1].strip() == "3 min"


def test_spans_are_readable() -> None:
    assert [span(s) for s in (None, 5, 119, 120, 7199, 7200)] == [
        "unknown",
        "5 s",
        "119 s",
        "2 min",
        "120 min",
        "2.0 h",
    ]
