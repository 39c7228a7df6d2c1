"""What can be set: `--info` of a verb, and the nearest name for one that Hydra does not know."""

import re
from collections.abc import Iterator
from pathlib import Path

from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from steeldefect.runs.errors import nearest

_LINE = re.compile(r"(?P<indent> *)(?P<key>\w+):(?P<value>[^#]*)(?:# (?P<comment>.*))?")
HYDRA_GROUPS = tuple(f"hydra/{name}" for name in ("launcher", "sweeper", "job_logging", "hydra_logging", "help"))
_ID_LIKE_A_FLOAT = re.compile(r"[0-9]+e[0-9]+")  # one id in 285, of which Hydra would make a number
_PLAIN = re.compile(r"[\w./:+%@?|$*-]*", re.ASCII)  # of an override's value
_MORE = {("scale", "gpu"): "; a GPU is taken without being asked (trainer=auto), scale=paper is what one is needed for"}


def quoted(argument: str) -> str:
    """`key=value` as Hydra can read it, where the value is a file or folder that is there, or holds letters beyond ASCII.

    Hydra's grammar knows neither ö nor parentheses nor ~ in a plain value. Anything else stays as it is, flags too.
    """
    key, _, value = argument.partition("=")
    if key == "cell" and _ID_LIKE_A_FLOAT.fullmatch(value):
        return f"{key}='{value}'"
    if argument.startswith("-") or _PLAIN.fullmatch(value) or value[:1] in tuple("'\"[{"):
        return argument
    path = str(Path(value).expanduser()) if value.startswith("~/") else value
    if _is_there(path) or not (path.isascii() or "," in path):
        inside = path.replace("'", r"\'")
        return f"{key}='{inside}'"
    return argument


def _is_there(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # too long for a name, or none at all
        return False


def hint(error: BaseException | None) -> str:
    """One line for an error of Hydra's composition, empty where there is nothing to add."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        if error.options:
            # a name that begins with an underscore is a part of others
            choices = [option for option in error.options if not option.startswith("_")]
            return f"{group or '--config-name'}={name}: {nearest(name, choices)}{_MORE.get((group, name), '')}"
    if isinstance(error, OverrideParseException):
        return (
            "a value with ~, ( ) { }, = or a comma is quoted twice, unless it is a file or folder that is there: "
            "'output=\"results (2024)\"'"
        )
    if isinstance(error, ConfigCompositionException) and str(error).startswith("Ambiguous value"):
        return "several values: put -m after the script"
    cause = error.__cause__ if isinstance(error, ConfigCompositionException) else None
    if not isinstance(cause, OmegaConfBaseException) or not isinstance(cause.parent_node, DictConfig):
        return ""
    key = str(cause.key)
    names = HYDRA_GROUPS if key.startswith("hydra/") else [str(name) for name in cause.parent_node]
    return f"{cause.full_key}: {nearest(key, names)}"


def groups(conf: Path, config_name: str) -> dict[str, str | None]:
    """The config groups of a verb with the choice made where nothing is said; the verb's own file comes last.

    A group that stands at another place of the config keeps it: `classifier@quality.classifier`.
    """
    found: dict[str, str | None] = {}
    file = OmegaConf.load(conf / f"{config_name}.yaml")
    assert isinstance(file, DictConfig)
    for item in file.get("defaults", []):
        if isinstance(item, str):
            found |= groups(conf, item) if item != "_self_" else {}
            continue
        # Hydra's own groups have their files in Hydra
        own = {str(key).split()[-1]: choice for key, choice in item.items()}
        found |= {key: choice for key, choice in own.items() if not key.startswith("hydra/")}
    return found


def show_choices(conf: Path, config_name: str) -> None:
    """Groups with their choices, then every key with its value and what the config files say of it."""
    console, chosen = Console(), groups(conf, config_name)
    if chosen:
        table = Table("group", "choices (the default in brackets)", title="config groups: group=choice", box=None)
        for group, choice in chosen.items():
            names = sorted(path.stem for path in (conf / group.partition("@")[0]).glob("[!_]*.yaml"))
            table.add_row(group, " ".join(rf"\[{name}]" if name == choice else name for name in names))
        console.print(table)
    table = Table(title="keys: key=value", box=None)
    table.add_column("key", no_wrap=True)
    table.add_column("value", max_width=24, overflow="fold")
    table.add_column("", overflow="fold")
    for file, prefix in _files(conf, config_name, chosen):
        for key, value, comment in keys_of(file, prefix):
            table.add_row(key, escape(value), escape(comment))
    console.print(table)
    console.print(
        "--cfg job --resolve: every value as it would be used; --hydra-help: all flags; --info all: Hydra's own view"
    )


def _files(conf: Path, config_name: str, chosen: dict[str, str | None]) -> Iterator[tuple[Path, str]]:
    yield conf / f"{config_name}.yaml", ""
    if (conf / "base.yaml").is_file():
        yield conf / "base.yaml", ""
    for group, choice in chosen.items():
        if choice is not None:
            folder, _, place = group.partition("@")
            yield conf / folder / f"{choice}.yaml", f"{place or folder}."


def keys_of(file: Path, prefix: str) -> Iterator[tuple[str, str, str]]:
    """(dotted key, value, comment) of each leaf of a config file in the house's plain YAML; Hydra's own part is left out."""
    path: list[str] = []
    for line in file.read_text().splitlines():
        found = _LINE.fullmatch(line)
        if found is None:
            continue
        path[len(found["indent"]) // 2 :] = [found["key"]]
        if path[0] not in ("defaults", "hydra") and found["value"].strip():
            yield prefix + ".".join(path), found["value"].strip(), found["comment"] or ""
