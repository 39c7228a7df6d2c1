"""Where the images of a data set lie, of which class each is, and what it is called."""

import logging
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steeldefect.runs.errors import UserError, require

log = logging.getLogger(__name__)

NEU_VARIABLE = "STEELDEFECT_NEU_DIR"
# paper: section 4.1, 200 x 200
NEU_SIZE = 200
NEU_PER_CLASS = 300
NEU_CLASSES = ("crazing", "inclusion", "patches", "pitted_surface", "rolled-in_scale", "scratches")
# the published codes and the folder names that are about, without case and punctuation
NEU_SPELLINGS = {
    "crazing": ("cr", "crazing"),
    "inclusion": ("in", "inclusion", "inclusions"),
    "patches": ("pa", "patch", "patches"),
    "pitted_surface": ("ps", "pitted", "pittedsurface"),
    "rolled-in_scale": ("rs", "rolled", "rolledin", "rolledinscale"),
    "scratches": ("sc", "scratch", "scratches"),
}
_NEU_CLASS_OF = {spelling: name for name, spellings in NEU_SPELLINGS.items() for spelling in spellings}
_NEU_STEM = re.compile(r"(?P<spelling>[A-Za-z][A-Za-z _-]*?)?[ _-]*\(?(?P<number>[0-9]+)\)?")
# NEU-DET as published: train/images/<class>/
_NEU_DEPTH = 4
_PARTS = {"train": "train", "valid": "validation", "val": "validation", "validation": "validation", "test": "test"}
# parts only where nothing else would do: a class may be called so, too
_MORE_PARTS = {"training": "train", "dev": "validation", "testing": "test", "eval": "test", "evaluation": "test"}
# what an export of training images lays beside its class folders (`data.generated`)
SPLIT_NOTE, LABELS_NOTE = "split.json", "dataset.json"
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"})


@dataclass(frozen=True)
class Source:
    """An image file and what it may be called, best first; the last name, its path, is always unique.

    `published`: the first name is the data set's own and stands in full in the file's, so it means one image only (a
    bare number may count within train and test apart).
    """

    path: Path
    class_name: str
    names: tuple[str, ...]
    published: bool = False
    part: str | None = None  # train, validation or test, by the folder that it lies in


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts `a_2` before `a_10`; the name itself decides between `a_02` and `a_2`."""
    pieces = re.split(r"([0-9]+)", name)
    return (*((0, int(p), "") if k % 2 else (1, 0, p) for k, p in enumerate(pieces)), (2, 0, name))


def given_folder(root: Any, key: str) -> Path:
    require(root is not None and str(root) != "", f"{key}=null: give the folder that holds the images")
    path = Path(str(root)).expanduser()
    require(path.exists(), f"{key}={path}: no such folder")
    require(path.is_dir(), f"{key}={path}: not a folder (an archive must be unpacked first)")
    return path


def neu_root(root: Any) -> Path:
    if root is not None:
        return given_folder(root, "dataset.root")
    if os.environ.get(NEU_VARIABLE):
        return given_folder(os.environ[NEU_VARIABLE], NEU_VARIABLE)
    shared = Path(__file__).resolve().parents[3] / "shared" / "data" / "neu-cls"
    require(
        shared.is_dir(),
        "dataset.root=null: NEU-CLS was not found; set dataset.root=DIR or the environment variable "
        f"{NEU_VARIABLE} to the folder of its 1,800 images, or run on dataset=rendered, which needs no files",
    )
    return shared


class _Tree:
    """Walks folders once each: links back up or to a folder already read are ignored, not followed for ever."""

    def __init__(self, root: Path) -> None:
        real = Path(os.path.realpath(root))
        self.root, self.seen = root, {real, *real.parents}
        self.ignored, self.unread = list[Path](), list[Path]()
        self.notes = {root / SPLIT_NOTE, root / LABELS_NOTE}

    def entries(self, folder: Path) -> list[Path]:
        try:
            # dot files and __MACOSX hold an archiver's notes, some of them named like images
            kept = [path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX"))]
        except OSError as error:
            raise UserError(f"{folder}: cannot be listed ({error.strerror})") from error
        for path in kept:
            if not _is_utf8(path.name):
                raise UserError(
                    f"{os.fsencode(path)!r}: its name is not UTF-8 (from an older Windows archive?); rename it, such as with "
                    "convmv -f latin1 -t utf8 --notest -r <folder>"
                )
        # links last: a folder that is met twice keeps its own name
        return sorted(kept, key=lambda path: (path.is_symlink(), natural_key(path.name)))

    def folders(self, folder: Path) -> list[Path]:
        """Folders in `folder` that were not met before; what else lies there is ignored."""
        fresh = [path for path in self.entries(folder) if path.is_dir() and self._enter(path)]
        self.ignored += [path for path in self.entries(folder) if not path.is_dir() and path not in self.notes]
        return fresh

    def images(self, folder: Path, depth: int = 0) -> list[Path]:
        found: list[Path] = []
        for path in self.entries(folder):
            if path.is_dir():
                if depth == 0:
                    self.leave(path)
                elif self._enter(path):
                    found += self.images(path, depth - 1)
            elif _is_image(path):
                found.append(path)
            else:
                self.ignored.append(path)
        return found

    def leave(self, folder: Path) -> None:
        self.ignored.append(folder)
        self.unread.append(folder)

    def _enter(self, folder: Path) -> bool:
        real = Path(os.path.realpath(folder))
        fresh = real not in self.seen
        self.seen.add(real)
        if not fresh:
            self.ignored.append(folder)
        return fresh

    def report(self) -> None:
        if self.ignored:
            first = ", ".join(str(path.relative_to(self.root)) for path in self.ignored[:3])
            log.warning("%s: %d files or folders ignored (%s ...)", self.root, len(self.ignored), first)
        lost = {folder: count for folder in self.unread if (count := _images_below(folder))}
        if lost:
            listed = ", ".join(str(folder.relative_to(self.root)) for folder in list(lost)[:3])
            log.warning(
                "%s: %d images in %s%s are not read: images lie directly in the folder of their class",
                *(self.root, sum(lost.values()), listed, " ..." if len(lost) > 3 else ""),
            )


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_image(path: Path) -> bool:
    # a broken link named like an image is a lost image: reading it will say so; a device would never end
    return path.suffix.lower() in IMAGE_SUFFIXES and (path.is_file() or not path.exists())


def _visible(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """`os.walk` without what an archiver leaves; links are not followed, what cannot be listed is left out."""
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        yield Path(place), folders, [name for name in files if not name.startswith(".")]


def _images_below(folder: Path) -> int:
    if folder.is_symlink():
        return 0
    return sum(_is_image(place / name) for place, _, files in _visible(folder) for name in files)


def _holds_classes(folder: Path) -> bool:
    """Whether images lie in the folders of `folder` and none in itself."""

    def direct(place: Path) -> tuple[list[str], bool]:
        _, folders, files = next(_visible(place), (place, list[str](), list[str]()))
        return folders, any(_is_image(place / name) for name in files)

    inner, loose = direct(folder)
    return not loose and any(direct(folder / name)[1] for name in inner)


def find_neu(root: Path) -> tuple[tuple[str, ...], list[Source]]:
    """NEU in any of its layouts: the class is read off the stem, else off the nearest folder."""
    tree = _Tree(root)
    sources: list[Source] = []
    for path in tree.images(root, _NEU_DEPTH):
        relative = path.relative_to(root)
        folders = (_NEU_CLASS_OF.get(_letters(part)) for part in reversed(relative.parts[:-1]))
        by_folder = next((found for found in folders if found), None)
        stem = _NEU_STEM.fullmatch(path.stem)
        by_stem = _NEU_CLASS_OF.get(_letters(stem["spelling"] or "")) if stem else None
        class_name = by_stem or by_folder
        if class_name is None:
            tree.ignored.append(path)
            continue
        require(
            by_stem is None or by_folder is None or by_stem == by_folder,
            f"{path}: the name says {by_stem}, the folder {by_folder}; move or rename it",
        )
        known = stem is not None and (by_stem is not None or not stem["spelling"])
        names = (f"{class_name}_{int(stem['number'])}",) if known and stem else ()
        published = bool(names) and by_stem is not None
        sources.append(Source(path, class_name, (*names, *_path_names(path, root, class_name)), published))
    tree.report()
    counts = Counter(source.class_name for source in sources)
    missing = [name for name in NEU_CLASSES if not counts[name]]
    require(
        not missing,
        f"{root}: no images of {', '.join(missing)}; expected files such as Cr_1.bmp or crazing_1.jpg, or a folder a "
        "class; other classes load with dataset=image_folder",
    )
    if set(counts.values()) != {NEU_PER_CLASS}:
        listed = ", ".join(f"{name} {counts[name]}" for name in NEU_CLASSES)
        log.warning("%s: NEU-CLS has %d images a class, here are %s", root, NEU_PER_CLASS, listed)
    return NEU_CLASSES, sources


def find_classes(root: Path, key: str) -> tuple[tuple[str, ...], list[Source]]:
    tree = _Tree(root)
    top = tree.folders(root)
    parts = {
        path: part
        for path in top
        if ((part := _PARTS.get(path.name.lower())) and any(p.is_dir() for p in tree.entries(path)))
        or ((part := _MORE_PARTS.get(path.name.lower())) and _holds_classes(path))
    }
    beside = [path for path in top if parts and path not in parts]
    strange = [path.name for path in beside if _holds_classes(path)]
    require(
        not strange,
        f"{key}={root}: class folders lie in {', '.join(strange)}, beside {', '.join(p.name for p in parts)}, and would not "
        "be read; rename to train, valid or test, or move elsewhere",
    )
    for path in beside:
        tree.leave(path)
    found: dict[str, list[Path]] = defaultdict(list)
    part_of: dict[Path, str] = {}
    for folder in [inner for part in parts for inner in tree.folders(part)] if parts else top:
        images = tree.images(folder)
        found[folder.name] += images
        part_of |= {path: parts[folder.parent] for path in images if parts}
    tree.report()
    _require_distinct(found, f"{key}={root}")
    if parts:
        log.info(
            "%s: %s are read as one set, which split= divides; split=given keeps them",
            root,
            ", ".join(path.name if path.name == part else f"{path.name} ({part})" for path, part in parts.items()),
        )
    require(bool(found), f"{key}={root}: holds no class folders; each class needs a folder of its images")
    empty = sorted(name for name, paths in found.items() if not paths)
    endings = " ".join(sorted(IMAGE_SUFFIXES))
    require(not empty, f"{key}={root}: no images ({endings}) in class folder {', '.join(empty)}; fill or remove")
    classes = tuple(sorted(found))
    require(len(classes) > 1, f"{key}={root}: one class only ({classes[0]}); a classifier needs two or more")
    return classes, [
        Source(path, name, _path_names(path, root, name), part=part_of.get(path))
        for name in classes
        for path in found[name]
    ]


def _require_distinct(names: Iterable[str], where: str) -> None:
    """A class that is spelt in two ways, in train and test say, would silently be two."""
    met: dict[str, str] = {}
    for name in sorted(names):
        other = met.setdefault(unicodedata.normalize("NFC", name.lower()), name)
        if other == name:
            continue
        if unicodedata.normalize("NFC", other) == unicodedata.normalize("NFC", name):
            raise UserError(
                f"{where}: class folders {other!a} and {name!a} print alike, {name} (an accent stored in two ways): rename one"
            )
        raise UserError(f"{where}: class folders {other} and {name} differ in case only: rename one")


def _letters(text: str) -> str:
    return re.sub(r"[^a-z]", "", text.lower())


def _path_names(path: Path, root: Path, class_name: str) -> tuple[str, ...]:
    return f"{class_name}/{path.stem}", f"{class_name}/{path.name}", path.relative_to(root).as_posix()


def unique_names(
    sources: Sequence[Source], hashes: Sequence[str], root: Path
) -> tuple[list[str], list[Source], list[str]]:
    """Each file under its best name that no other has; second copies (class, name and bytes alike) are left out."""
    kept: dict[tuple[str, str], int] = {}
    for k, source in enumerate(sources):
        kept.setdefault((source.names[0], hashes[k]), k)
    if len(kept) < len(sources):
        log.warning("%s: %d second copies of an image left out", root, len(sources) - len(kept))
    sources, hashes = [sources[k] for k in kept.values()], [hashes[k] for k in kept.values()]
    level = [0] * len(sources)
    while True:
        names = [source.names[k] for source, k in zip(sources, level, strict=True)]
        counts = Counter(names)
        clashing = [k for k, name in enumerate(names) if counts[name] > 1]
        if not clashing:
            return names, sources, hashes
        for k in clashing:
            if sources[k].published and level[k] == 0:
                same = [str(sources[j].path.relative_to(root)) for j in clashing if names[j] == names[k]]
                raise UserError(
                    f"{root}: different images are all called {names[k]}: {', '.join(same[:3])}; remove one, or load "
                    "with dataset=image_folder"
                )
            level[k] = min(level[k] + 1, len(sources[k].names) - 1)
