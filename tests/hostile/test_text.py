"""CSVs of groups, configs, records and manifests with something wrong in them: taken, or refused with a message."""

import copy
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from steeldefect.data.bank import read_bank
from steeldefect.data.tables import read_scenes
from steeldefect.report.collect import collect
from steeldefect.report.status import read
from steeldefect.runs.settings import plain
from steeldefect.runs.store import Store, verify
from tests.hostile.harness import hostile, or_message
from tests.stages import tiny

FIXTURE = Path(__file__).parents[1] / "report" / "fixture" / "cells" / ("0" * 12)
WORDS = st.sampled_from(
    ["", "null", "../../../etc/passwd", "/etc/passwd", "${oc.env:HOME}", "${gan}", "nan", "\x00", "é"]
)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5), WORDS)
JUNK = st.recursive(
    LEAVES,
    lambda s: st.one_of(st.lists(s, max_size=3), st.dictionaries(st.text(max_size=3), s, max_size=3)),
    max_leaves=4,
)


def places(part: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all that lies within nested dicts and lists."""
    inner = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    return [above, *(place for key, value in inner for place in places(value, (*above, key)))]


def replaced(part: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    made = copy.copy(part)
    made[place[0]] = replaced(part[place[0]], place[1:], value)
    return made


def removed(part: Any, place: tuple[Any, ...]) -> Any:
    made = copy.deepcopy(part)
    inner = made
    for key in place[:-1]:
        inner = inner[key]
    del inner[place[-1]]
    return made


@st.composite
def harmed(draw: st.DrawFn, part: Any) -> str:
    """JSON with a value replaced or removed, cut short, or with a character changed."""
    place = draw(st.sampled_from(places(part)))
    how = draw(st.sampled_from(["replace", "replace", "remove", "cut", "character"]))
    if how == "replace":
        return json.dumps(replaced(part, place, draw(JUNK)))
    text = json.dumps(removed(part, place) if how == "remove" and place else part)
    at = draw(st.integers(0, len(text) - 1))
    if how == "cut":
        return text[:at]
    return text[:at] + draw(st.characters(codec="utf-8")) + text[at + 1 :] if how == "character" else text


@hostile
@given(
    st.lists(st.lists(st.one_of(WORDS, st.sampled_from(["a", "b", "image", "scene"])), max_size=4), max_size=6),
    st.binary(max_size=8),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["\n", "\r\n", "\r", '"\n']),
)
def test_tables_of_groups(rows: list, tail: bytes, comma: str, end: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "groups.csv"
        text = end.join(comma.join(row) for row in [["image", "scene"], ["a", "1"], ["b", "2"], *rows])
        path.write_bytes(text.encode() + tail)
        found = or_message(lambda: read_scenes(path, ["a", "b"]))
        assert found is None or len(found) == 2
        assert [entry.name for entry in Path(place).iterdir()] == ["groups.csv"]


@cache
def _config() -> dict[str, Any]:
    found = OmegaConf.to_container(tiny("train_classifier", Path("/nowhere")))
    assert isinstance(found, dict)
    return found


@hostile
@given(st.data())
def test_configs(data: st.DataObject) -> None:
    place = data.draw(st.sampled_from(places(_config())[1:]))
    changed = replaced(_config(), place, data.draw(JUNK))
    config = OmegaConf.create(changed)
    or_message(lambda: plain(config))


def cells(place: str, record: str | None = None, manifest: str | None = None) -> Path:
    folder = Path(place) / "cells" / FIXTURE.name
    folder.mkdir(parents=True)
    for name, text in (("record.json", record), ("manifest.json", manifest), ("predictions.csv", None)):
        folder.joinpath(name).write_text(text if text is not None else (FIXTURE / name).read_text())
    return folder


@hostile
@given(harmed(json.loads((FIXTURE / "record.json").read_text())))
def test_records(text: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        cells(place, record=text)
        found = or_message(lambda: collect(Path(place)))
        assert found is None or len(found.records) == 1


MANIFEST = json.loads((FIXTURE / "manifest.json").read_text()) | {
    "files": {"record.json": {"sha256": "0" * 64, "bytes": 3}, "../../outside": {"sha256": "0", "bytes": 1}},
    "identity": {"stage": "cell", "split": "0" * 12},
    "summary": {},
}


@hostile
@given(harmed(MANIFEST))
def test_manifests(text: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder, outside = cells(place, manifest=text), Path(place) / "outside"
        for name in ("images.npy", "labels.npy"):
            np.save(folder / name, np.zeros(3, np.uint8))
        outside.write_text("x")
        or_message(lambda: verify(folder))
        or_message(lambda: Store(place).need("cells", folder.name, "a command"))
        or_message(lambda: read(Path(place)))
        or_message(lambda: collect(Path(place)))
        or_message(lambda: read_bank(folder, "0" * 12))
        partial = folder.with_name(".abc.partial")
        partial.mkdir()
        (partial / "running.json").write_text(text)
        or_message(lambda: read(Path(place)))
        assert outside.read_text() == "x"
