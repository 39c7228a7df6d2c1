"""Every command and example of docs/ is run, in order, on a folder of seven classes, at the smallest scale."""

import json
import re
import shlex
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
NOT_RUN = ("clusters", "contributing", "findings", "protocol", "trust")  # a cluster's commands, what CI runs, and text
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
    parts = [part for line in lines for part in re.split(r"\|\| \{ code=.*?failed=1; \};|&& exit \$failed", line)]
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


def test_the_commands_of_the_readme_are_there(tmp_path: Path) -> None:
    """Its Python is run, its verbs and lines of make are composed; documents and .ci/run run most of what they would."""
    text = (ROOT / "README.md").read_text()
    lines = [line for block in BLOCK.finditer(text) if block["kind"] == "bash" for line in block["text"].splitlines()]
    verbs = [line.partition("#")[0].strip() for line in lines if line.startswith("python ")]
    makes = [line.partition("  #")[0].strip() for line in lines if line.startswith("make ")]
    assert len(verbs) >= 6 and len(makes) >= 10
    for line in makes:
        assert "test" in line or expanded(line), line
    for line in verbs:
        words = [word for word in shlex.split(line) if word != "-m"]
        asked = [] if "--cfg" in words else ["--cfg", "job"]
        command = [sys.executable, *words[1:2], *(word.partition(",")[0] for word in words[2:]), *asked]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    (code,) = [block["text"] for block in BLOCK.finditer(text) if block["kind"] == "python"]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and done.stdout.count("scenes on both sides: 0") == 3, done.stderr


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


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("controls DATA=neu", "DATA=neu: no neu in conf/dataset; there are image_folder neu_cls rendered"),
        ("table3 CLASSIFIERS=small_cnn,vgg", "CLASSIFIERS=small_cnn,vgg: no vgg in conf/classifier; there are "),
        ("controls MIXES=common", "MIXES=common: no common in conf/mix; there are bank1000 "),
        ("controls PARTS='controls control'", "PARTS=controls control: no control in conf/experiment; there are "),
        ("controls REPLICATES='0 1'", "REPLICATES=0 1: several values are separated by commas alone, no spaces"),
        ("inflation MIXES=org20", "MIXES=org20: inflation is of the originals alone"),
        ("table2 CLASSIFIERS=vgg16", "CLASSIFIERS=vgg16: table2 is of mobilenet_v2"),
        ("report STUDY=controls K=10", "K=10: STUDY=controls is of all real images"),
    ],
)
def test_make_answers_a_wrong_value_before_anything_is_trained(given: str, message: str) -> None:
    done = subprocess.run(f"make -n {given}", shell=True, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and message in done.stderr and "experiments/" not in done.stdout


def test_make_takes_further_overrides_behind_names_and_other_folders_of_configs() -> None:
    assert any(
        "mix=org20,org0 mix.balance=uniform" in line
        for line in expanded("make controls MIXES='org20,org0 mix.balance=uniform'")
    )
    assert "gan=mine" in expanded("make gan GAN=mine ARGS='hydra.searchpath=[file://mine]'")[0]
    assert "gan=edcgan,edcgan_plus-no_ema" in expanded("make gan GAN=edcgan,edcgan_plus-no_ema")[0]
    one, two = (
        expanded(f"make controls PARTS={parts}")
        for parts in ("controls,controls_augmented", "'controls controls_augmented'")
    )
    assert one == two


@pytest.mark.parametrize(("code", "goes_on"), [(1, True), (2, True), (130, False), (143, False)])
def test_a_study_that_is_told_to_stop_begins_no_next_part(code: int, goes_on: bool) -> None:
    (line,) = re.findall(r"^GO_ON = (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    done = subprocess.run(
        ["sh", "-c", f"(exit {code}) {line.replace('$$', '$')}; echo next"], capture_output=True, text=True
    )
    assert (done.stdout == "next\n") is goes_on and done.returncode == (0 if goes_on else code)


def test_make_leaves_no_variable_out() -> None:
    assert "mix=org100,org20" in " ".join(expanded("make table2 MIXES=org100,org20"))
    assert "mix=org0" in " ".join(expanded("make table3 MIXES=org0"))
    train, report = expanded("make inflation CLASSIFIERS=resnet18 SOURCE=experiments/results/inflation")
    assert "classifier=resnet18" in train
    assert "source=[experiments/results/inflation," in report
    # split is what it sweeps
    assert "split=" not in " ".join(expanded("make plan STUDY=inflation"))
    for target in ("generators", "ablation", "gan-rates", "bench"):
        assert "output=kept" in expanded(f"make {target} OUTPUT=kept")[-1]


def test_make_report_is_of_what_there_is_or_of_what_was_given() -> None:
    plain = expanded("make report")[0]
    assert not any(word in plain for word in ("study=", "where=", "grid."))
    given = expanded("make report STUDY=controls DATA=neu_cls REPLICATES=0,1,2")[0]
    assert "grid.replicates=[0,1,2]" in given and "'where={dataset: neu_cls, real_per_class: null}'" in given
    three = expanded("make report STUDY=table3 CLASSIFIERS=vgg16 SCALE=cpu SPLIT=grouped_cv")[0]
    assert "split: grouped_cv, scale: cpu, augment: none, real_per_class: null, classifier: [vgg16]}" in three
    assert "grid.classifiers=[vgg16]" in three
    assert "classifier" not in expanded("make report STUDY=table3")[0]
    assert "'where={real_per_class: [10, null]}'" in expanded("make report STUDY=low_data K=10")[0]
    # it compares two splits
    assert "where={dataset: neu_cls}" in expanded("make report STUDY=inflation DATA=neu_cls SPLIT=grouped")[0]


def test_make_takes_its_variables_from_its_command_line_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = expanded("make controls")
    for name in ("DATA", "GAN", "OUTPUT", "SOURCE", "JOBS", "METRIC", "ARGS"):
        monkeypatch.setenv(name, "stray")
    assert expanded("make controls") == plain


def test_every_document_is_tested_and_linked_files_exist() -> None:
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} == {*DOCS, *NOT_RUN}
    for doc in (*DOCS, *NOT_RUN):
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
