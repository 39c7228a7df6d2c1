"""Runs the commands of the documents in one process, since importing torch takes longer than most of them.

Standard input: a JSON list of steps {"doc", "kind": "bash" | "python", "text"}. Standard output: a JSON list of
{"doc", "text", "code", "said"}. The current folder is where the commands find `images` and leave `artifacts`.
"""

import contextlib
import io
import json
import re
import runpy
import shlex
import subprocess
import sys
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# what makes a command small: key, its value here, and the verbs that do not know it
SMALL = {"scale": "smoke", "logger": "csv", "dataset.image_size": "32"}
SHORT = ["gan.updates=2", "scale.phases.initial.updates=2", "scale.phases.retrain.updates=2"]


def made_small(script: str, words: list[str], searchpath: Path) -> list[str]:
    """The command's words with its scale replaced, its data set tiny, and the documents' own configs within reach."""
    if script == "predict":
        return words
    flags = [word for word in words if word.startswith("-") or "=" not in word]
    given = dict(word.split("=", 1) for word in words if word not in flags)
    given |= SMALL
    if given.get("dataset", "rendered") == "rendered":
        given["dataset.per_class"] = "12"
    if script == "report":
        given["figures"] = "false"
        given["where"] = re.sub(r"scale: \w+", f"scale: {SMALL['scale']}", given.get("where", "null"))
    if "," in given.get("classifier", ""):
        given["classifier"] = "small_cnn"
    extra = SHORT if "debug" in given else []
    return [
        *flags,
        *(f"{key}={value}" for key, value in given.items()),
        *extra,
        f"hydra.searchpath=[file://{searchpath}]",
    ]


def cell_with_weights() -> str:
    return next(path.parent.name for path in Path("artifacts/cells").glob("*/weights.pt"))


def run(line: str) -> int:
    """One line of a shell block; make's lines were expanded before."""
    inner = re.fullmatch(r'eval "\$\((?P<command>.*)\)"', line)
    words = shlex.split(inner["command"] if inner else line)
    if "cell=CELL" in words:
        words[words.index("cell=CELL")] = f"cell={cell_with_weights()}"
    if words[1:3] == ["-m", "json.tool"]:
        split = next(Path("artifacts/splits").glob("[!.]*")).name
        # a process of its own: it closes the standard output
        return subprocess.run(
            [sys.executable, *words[1:3], words[3].replace("SPLIT", split)], stdout=subprocess.DEVNULL
        ).returncode
    script = Path(words[1])
    shown = any(word in ("--info", "-sc") for word in words)
    rest = words[2:] if shown else made_small(script.stem, words[2:], Path("conf").resolve())
    sys.argv = [str(ROOT / script), *rest]
    runpy.run_path(str(ROOT / script), run_name="__main__")
    return 0


def main() -> None:
    results = []
    for step in json.load(sys.stdin):
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                code = run(step["text"]) if step["kind"] == "bash" else exec(step["text"], {}) or 0
            except SystemExit as stop:
                code = stop.code or 0
            except BaseException:
                code = 1
                traceback.print_exc()
        print(code, step["text"], file=sys.stderr, flush=True)
        results.append({"doc": step["doc"], "text": step["text"], "code": code, "said": said.getvalue()[-3000:]})
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
