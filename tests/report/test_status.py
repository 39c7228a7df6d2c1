import json
import os
import socket
import subprocess
import sys
from io import StringIO

import pytest
from rich.console import Console

from steeldefect.report import status
from steeldefect.report.terminal import show
from steeldefect.runs.errors import UserError


def gone() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def artifacts(tmp_path):
    def note(path, **content):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))

    here, started = socket.gethostname(), "2026-01-02T03:04:05+00:00"
    note(tmp_path / "gans" / "aaaaaaaaaaaa" / "manifest.json", schema=1)
    note(tmp_path / "cells" / "bbbbbbbbbbbb" / "manifest.json", schema=1)
    note(tmp_path / "cells" / ".cccccccccccc.partial" / "running.json", host=here, pid=os.getpid(), started=started)
    note(tmp_path / "cells" / ".dddddddddddd.partial" / "running.json", host=here, pid=gone(), started=started)
    note(tmp_path / "cells" / ".eeeeeeeeeeee.partial" / "running.json", host="far", pid=gone(), started=started)
    note(tmp_path / "cells" / ".ffffffffffff.partial" / "failed.json", error="ValueError: [x]\nmore", time=started)
    note(tmp_path / "banks" / ".abababababab.partial" / "images.npy")
    (tmp_path / "cells" / ".cdcdcdcdcdcd.partial").mkdir()
    (tmp_path / "cells" / ".cdcdcdcdcdcd.partial" / "running.json").write_text('{"host"')
    return tmp_path


def test_done_running_failed_and_dead_are_told_apart(artifacts):
    found = {row.id[:2]: row.state for row in status.read(artifacts)}
    assert found == {
        "aa": "done",
        "bb": "done",
        "cc": "running",
        "dd": "dead",
        "ee": "running",
        "ff": "failed",
        "ab": "dead",
        "cd": "dead",
    }
    details = {row.id[:2]: row.detail for row in status.read(artifacts)}
    assert "on far" in details["ee"] and details["ff"].endswith("ValueError: [x] more")


def test_a_failed_row_keeps_the_command_that_makes_what_is_missing(tmp_path):
    failed = tmp_path / "cells" / ".aaaaaaaaaaaa.partial" / "failed.json"
    failed.parent.mkdir(parents=True)
    failed.write_text(json.dumps({"error": "MissingArtifact: bank b is missing: make it with\n  python synthesize.py"}))
    (row,) = status.read(tmp_path)
    assert row.detail == "MissingArtifact: bank b is missing: make it with python synthesize.py"


def test_plain_text_where_the_output_is_no_terminal(artifacts):
    text = StringIO()
    for table in status.tables(status.read(artifacts)):
        show(table, Console(file=text))
    assert text.getvalue().isascii() and "\x1b" not in text.getvalue()
    assert "ValueError: [x]" in text.getvalue()
    counts = next(line for line in text.getvalue().splitlines() if "cells" in line)
    assert [part.strip() for part in counts.strip("|").split("|")] == ["cells", "1", "2", "1", "2"]


def test_colour_on_a_terminal_unless_no_color(artifacts, monkeypatch):
    def shown() -> str:
        text = StringIO()
        show(status.tables(status.read(artifacts))[0], Console(file=text, force_terminal=True, width=100))
        return text.getvalue()

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[32m" in shown()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in shown()


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="artifacts="):
        status.read(tmp_path / "none")
