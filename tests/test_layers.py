"""Packages use those before them (docs/contributing.md), so that a part can be read without what is built on it."""

import ast
from itertools import count

from tests.conftest import ROOT

LAYERS = ({"runs", "data"}, {"gan", "classify"}, {"evaluate"}, {"report"}, {"deploy"}, {"bench"})
LEVEL = {package: level for level, packages in zip(count(), LAYERS, strict=False) for package in packages}
# which flips and shifts a bank is drawn through is part of its id
ALLOWED = {("runs/identities.py", "gan")}


def test_no_package_uses_one_that_is_built_on_it() -> None:
    found, seen = set(), 0
    for path in (ROOT / "steeldefect").glob("*/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("steeldefect."):
                used, seen = str(node.module).split(".")[1], seen + 1
                if LEVEL[used] > LEVEL[path.parent.name]:
                    found.add((f"{path.parent.name}/{path.name}", used))
    assert seen > 300 and found == ALLOWED
