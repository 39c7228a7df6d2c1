"""Every command and example of docs/ is run, in order, on a folder of seven classes, at the smallest scale."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT

# a command may stand on what an earlier document made
DOCS = ("your_own_data", "take_away", "configuration", "identity", "new_gan_or_backbone", "your_own_generator")
BLOCK = re.compile(r"^```(?P<kind>bash|python|yaml)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
COUNTS = {"blister": 9, "crack": 14, "dent": 10, "pit": 12, "rust": 9, "scale": 16, "scratch": 11}
YAML_AT = re.compile(r"`(?P<path>conf/\w+/\w+\.yaml)`")


def seven_classes(root: Path) -> None:
    """Imbalanced, of mixed sizes, formats and pixel depths; each class is a frequency, so that there is something to learn."""
    rng = np.random.default_rng(0)
    for c, (name, count) in enumerate(COUNTS.items()):
        (root / name).mkdir(parents=True)
        for k in range(count):
            height, width = rng.integers(32, 72, 2)
            wave = np.sin(np.arange(width) * (0.2 + 0.15 * c) + rng.uniform(0, 6))
            pixels = 127 + 50 * wave[None, :] + rng.normal(0, 30, (height, width))
            gray = pixels.clip(0, 255).astype(np.uint8)
            wide, rgba = gray.astype(np.uint16) * 257, np.dstack([gray] * 3 + [np.full_like(gray, 255)])
            made, ending = [(gray, "bmp"), (wide, "png"), (rgba, "png"), (gray, "jpg"), (gray, "tif")][k % 5]
            Image.fromarray(made).save(root / name / f"{k}.{ending}")


def steps(doc: str, conf: Path) -> list[dict[str, str]]:
    """The blocks of a document as commands; a YAML block is written to the file that the text before it names."""
    text, found = (ROOT / "docs" / f"{doc}.md").read_text(), []
    for block in BLOCK.finditer(text):
        if block["kind"] == "yaml":
            *_, named = YAML_AT.finditer(text[: block.start()])
            target = conf.parent / named["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block["text"])
            continue
        lines = [block["text"]] if block["kind"] == "python" else block["text"].splitlines()
        for line in lines:
            for command in expanded(line) if line.startswith("make ") else [line]:
                found.append({"doc": doc, "kind": block["kind"], "text": command})
    return found


def expanded(line: str) -> list[str]:
    """The commands that a line of make would run; `-o` keeps it from setting the environment up."""
    make, *words = line.split(" ", 1)
    done = subprocess.run(
        f"{make} --no-print-directory -n -o .venv/.installed {words[0]}",
        shell=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    lines = done.stdout.replace("\\\n", " ").splitlines()
    # a report is made although a cell failed: one line of shell of two commands
    parts = [part for line in lines for part in re.split(r"\|\| failed=1;|&& exit \$failed", line)]
    return [part.strip() for part in parts if " experiments/" in part]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("docs")
    seven_classes(folder / "images")
    (folder / "conf").mkdir()
    todo = [step for doc in DOCS for step in steps(doc, folder / "conf")]
    process = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "run_docs.py")],
        input=json.dumps(todo),
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=1200,
    )
    assert process.returncode == 0, process.stderr
    results = json.loads(process.stdout)
    table = (folder / "artifacts" / "report" / "table3" / "table3.md").read_text()
    assert "small_cnn" in table
    assert len(list((folder / "maps").rglob("*.png"))) == sum(COUNTS.values())
    shutil.rmtree(folder)
    return results


@pytest.mark.parametrize("doc", DOCS)
def test_the_commands_of_a_document_run(done: list[dict[str, Any]], doc: str) -> None:
    of_doc = [result for result in done if result["doc"] == doc]
    assert of_doc
    for result in of_doc:
        assert result["code"] == 0, f"{result['text']}\n{result['said']}"


def test_make_passes_on_what_lies_elsewhere_and_how_many_cells_at_a_time() -> None:
    sweeps = expanded("make controls JOBS=2 SOURCE=results/a,results/b REPLICATES=3,4")
    *sweeps, report = sweeps
    assert all("-m hydra/launcher=local hydra.launcher.n_jobs=2 " in line for line in sweeps) and len(sweeps) == 3
    assert "'source=[results/a,results/b,${artifacts}]'" in report and "grid.replicates=[3,4]" in report
    plain = expanded("make controls")
    assert not any("launcher" in line or "source" in line or "repeat" in line for line in plain)
    # a generator and its bank are no more than before
    *sweeps, report = expanded("make controls REPEATS=0,1")
    assert "repeat: [0,1]}" in report and "repeat: [0]}" in expanded("make report REPEATS=0")[0]
    again = [line for line in sweeps if "repeat=0,1" in line]
    assert again and all("train_classifier" in line for line in again)
    assert "sweep.repeat=[0,1]" in expanded("make plan REPEATS=0,1")[0]
    assert "'source=[results/a]'" in expanded("make plan SOURCE=results/a")[0]


def test_make_knows_its_variables() -> None:
    done = subprocess.run(["make", "-n", "choose-lr", "REPEATS=0,1"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and "one training a replicate" in done.stderr
    done = subprocess.run(["make", "-n", "table3", "REPLICATE=0,1"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and "no such variable: REPLICATE; there are " in done.stderr


def test_every_document_is_tested_and_linked_files_exist() -> None:
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} >= set(DOCS)
    for doc in DOCS:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / "docs" / f"{doc}.md").read_text()):
            assert (ROOT / "docs" / target).exists(), f"{doc}.md links to {target}"


def test_the_licence_of_every_dependency_is_listed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    names = {re.match(r"[\w.-]+", one)[0] for one in asked} - {"steeldefect"}
    rows = re.findall(r"^\| ([^|]+) \|[^|]*\|[^|]+\|$", (ROOT / "docs" / "trust.md").read_text(), re.MULTILINE)
    listed = [name for row in rows for name in row.split(", ")]
    assert names == set(listed) - {"package"} and len(listed) == len(names) + 1


def test_the_console_script_is_the_verb() -> None:
    from steeldefect.deploy import predict

    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, name = scripts["steeldefect-predict"].split(":")
    assert module == predict.__name__ and callable(getattr(predict, name))
