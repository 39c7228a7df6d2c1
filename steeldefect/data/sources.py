"""Read a data set into one gray uint8 array, whatever its layout; decoded once, kept in a verified cache."""

import logging
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import UnidentifiedImageError

from steeldefect.data.decode import DECODE_RECIPE, MAX_PIXELS, Facts, cached, decode_with_facts, new_array
from steeldefect.runs.errors import UserError, nearest, require
from steeldefect.runs.identity import digest, file_sha256

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
# what an export of training images lays beside its class folders (`data.generated`)
SPLIT_NOTE, LABELS_NOTE = "split.json", "dataset.json"
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"})
DARK = 2**13  # an eighth of 16 bits
_THREADS = min(4, os.cpu_count() or 1)

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class ImageSet:
    """images uint8 (N, S, S) gray, possibly a read-only memmap; labels int64 (N,) in [0, C); names unique.

    `content` digests what the images are. `plates` int64 (N,) are known scenes, None where nothing is known. `parts`: of
    each image the part (train, validation, test) whose folder it lies in, None where there are no such folders.
    """

    images: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    classes: tuple[str, ...]
    content: str
    plates: np.ndarray | None
    name: str
    parts: tuple[str, ...] | None = None


@dataclass(frozen=True)
class _Source:
    """An image file and what it may be called, best first; the last name, its path, is always unique.

    `published`: the first name is the data set's own and stands in full in the file's, so it means one image only (a
    bare number may count within train and test apart).
    """

    path: Path
    class_name: str
    names: tuple[str, ...]
    published: bool = False
    part: str | None = None  # train, validation or test, by the folder that it lies in


def load_dataset(dataset: Mapping[str, Any], cache: Path, group: str = "dataset") -> ImageSet:
    """The config group `group` as arrays, sorted by class and natural order of the name.

    Decoded arrays are kept as `<cache>/<content>.npy`. UserError names the key, folder or files that are at fault.
    """
    name = dataset["name"]
    if name == "rendered":
        return _load_rendered(dataset, cache)
    if name == "neu_cls":
        root = _neu_root(dataset.get("root"))
        classes, sources = _find_neu(root)
    elif name == "image_folder":
        root = _folder(dataset.get("root"), f"{group}.root")
        classes, sources = _find_classes(root, f"{group}.root")
    else:
        raise UserError(f"dataset.name={name}: {nearest(name, ('neu_cls', 'image_folder', 'rendered'))}")
    size = _positive(dataset, "image_size", NEU_SIZE if name == "neu_cls" else None)
    max_pixels = _positive(dataset, "max_pixels", MAX_PIXELS)
    bits = _bits(dataset)
    hashes = _each(lambda source: file_sha256(source.path), sources, root)
    names, sources, hashes = _name(sources, hashes, root)
    order = sorted(range(len(names)), key=lambda k: (sources[k].class_name, natural_key(names[k])))
    sources, hashes = [sources[k] for k in order], [hashes[k] for k in order]
    files = [[source.class_name, sha] for source, sha in zip(sources, hashes, strict=True)]
    way = {"image_size": size, "recipe": DECODE_RECIPE} | ({} if bits is None else {"bits": bits})
    content = digest({"files": files, **way})
    shape = (len(sources), size, size)
    images, table = cached(cache, content, shape, lambda path: _decode_all(path, sources, root, size, max_pixels, bits))
    _tell(root, table)
    labels = np.array([classes.index(source.class_name) for source in sources], np.int64)
    found = [source.part for source in sources]
    parts = tuple(part for part in found if part is not None) if None not in found else None
    return ImageSet(images, labels, tuple(names[k] for k in order), classes, content, None, name, parts)


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts `a_2` before `a_10`; the name itself decides between `a_02` and `a_2`."""
    pieces = re.split(r"([0-9]+)", name)
    return (*((0, int(p), "") if k % 2 else (1, 0, p) for k, p in enumerate(pieces)), (2, 0, name))


def _decode_all(
    path: Path, sources: Sequence[_Source], root: Path, size: int, max_pixels: int, bits: int | None
) -> dict[str, Any]:
    """Straight into the file at `path`, so that a large set needs no memory; what `_tell` says."""
    images = new_array(path, (len(sources), size, size))
    rows = {source.path: row for row, source in enumerate(sources)}

    def one(source: _Source) -> Facts:
        images[rows[source.path]], facts = decode_with_facts(source.path, size, max_pixels, bits)
        return facts

    found = _each(one, sources, root)
    images.flush()
    counts = {key: sum(getattr(facts, key) for facts in found) for key in ("colour", "stretched")}
    return {"count": len(found), "bits": bits, "deepest": max(facts.deepest for facts in found), **counts}


def _tell(root: Path, table: Mapping[str, Any]) -> None:
    """What of the files the gray squares no longer show; an older cache knows nothing of it."""
    if not table:
        return
    if table["colour"]:
        log.warning(
            "%s: %d of %d images are in colour; their gray alone is used", root, table["colour"], table["count"]
        )
    if table["stretched"]:
        log.warning(
            "%s: %d of %d images have one side more than half longer than the other and are squeezed into a square; cut "
            "them to squares first where shapes matter",
            *(root, table["stretched"], table["count"]),
        )
    if table["bits"] is None and 0 < table["deepest"] < DARK:
        log.warning(
            "%s: the 16-bit images reach %d of 65535, so nearly all are black; of a camera of fewer bits? Then give "
            "dataset.bits=%d",
            *(root, table["deepest"], table["deepest"].bit_length()),
        )


def _each(work: Callable[[_Source], Result], sources: Sequence[_Source], root: Path) -> list[Result]:
    """`work` on every file, in threads; one UserError for all the files that fail."""

    def guarded(source: _Source) -> tuple[Result | None, str]:
        try:
            return work(source), ""
        except UnidentifiedImageError:
            return None, "not an image"
        # damaged files make Pillow's readers raise nearly anything; each is a bad file, and is reported as one
        except Exception as error:
            return None, str(error) or type(error).__name__

    with ThreadPoolExecutor(_THREADS) as pool:
        outcomes = list(pool.map(guarded, sources))
    bad = [(source.path, reason) for source, (_, reason) in zip(sources, outcomes, strict=True) if reason]
    if bad:
        listed = "; ".join(f"{path.relative_to(root)} ({reason})" for path, reason in bad[:3])
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise UserError(f"{root}: {len(bad)} of {len(sources)} images cannot be read: {listed}{more}; mend or remove")
    return [result for result, _ in outcomes]  # type: ignore[misc]  # None stands beside a reason alone


def _bits(dataset: Mapping[str, Any]) -> int | None:
    bits = dataset.get("bits")
    good = bits is None or (isinstance(bits, int) and not isinstance(bits, bool) and 8 <= bits <= 16)
    require(good, f"dataset.bits={bits}: must be null or a whole number from 8 to 16, such as 12")
    return None if bits is None else int(bits)


def _positive(dataset: Mapping[str, Any], key: str, default: int | None) -> int:
    value = dataset.get(key)
    value = default if value is None else value
    good = isinstance(value, int) and not isinstance(value, bool) and value > 0
    require(good, f"dataset.{key}={'null' if value is None else value}: must be a positive whole number")
    return int(value)  # type: ignore[arg-type]  # checked above


def _folder(root: Any, key: str) -> Path:
    require(root is not None and str(root) != "", f"{key}=null: give the folder that holds the images")
    path = Path(str(root)).expanduser()
    require(path.exists(), f"{key}={path}: no such folder")
    require(path.is_dir(), f"{key}={path}: not a folder (an archive must be unpacked first)")
    return path


def _neu_root(root: Any) -> Path:
    if root is not None:
        return _folder(root, "dataset.root")
    if os.environ.get(NEU_VARIABLE):
        return _folder(os.environ[NEU_VARIABLE], NEU_VARIABLE)
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
        self.root, self.seen, self.ignored = root, {real, *real.parents}, list[Path]()
        self.notes = {root / SPLIT_NOTE, root / LABELS_NOTE}

    def entries(self, folder: Path) -> list[Path]:
        try:
            # dot files and __MACOSX hold an archiver's notes, some of them named like images
            kept = [path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX"))]
        except OSError as error:
            raise UserError(f"{folder}: cannot be listed ({error.strerror})") from error
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
                    self.ignored.append(path)
                elif self._enter(path):
                    found += self.images(path, depth - 1)
            # a broken link named like an image is a lost image: reading it will say so; a device would never end
            elif path.suffix.lower() in IMAGE_SUFFIXES and (path.is_file() or not path.exists()):
                found.append(path)
            else:
                self.ignored.append(path)
        return found

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


def _find_neu(root: Path) -> tuple[tuple[str, ...], list[_Source]]:
    """NEU in any of its layouts: the class is read off the stem, else off the nearest folder."""
    tree = _Tree(root)
    sources: list[_Source] = []
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
        sources.append(_Source(path, class_name, (*names, *_path_names(path, root, class_name)), published))
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


def _find_classes(root: Path, key: str) -> tuple[tuple[str, ...], list[_Source]]:
    tree = _Tree(root)
    top = tree.folders(root)
    parts = [path for path in top if path.name.lower() in _PARTS and any(p.is_dir() for p in tree.entries(path))]
    if parts:
        tree.ignored += [path for path in top if path not in parts]
    found: dict[str, list[Path]] = defaultdict(list)
    part_of: dict[Path, str] = {}
    for folder in [inner for part in parts for inner in tree.folders(part)] if parts else top:
        images = tree.images(folder)
        found[folder.name] += images
        part_of |= {path: _PARTS[folder.parent.name.lower()] for path in images if parts}
    tree.report()
    if parts:
        log.info(
            "%s: %s are read as one set, which split= divides; split=given keeps them",
            root,
            ", ".join(p.name for p in parts),
        )
    require(bool(found), f"{key}={root}: holds no class folders; each class needs a folder of its images")
    empty = sorted(name for name, paths in found.items() if not paths)
    endings = " ".join(sorted(IMAGE_SUFFIXES))
    require(not empty, f"{key}={root}: no images ({endings}) in class folder {', '.join(empty)}; fill or remove")
    classes = tuple(sorted(found))
    require(len(classes) > 1, f"{key}={root}: one class only ({classes[0]}); a classifier needs two or more")
    return classes, [
        _Source(path, name, _path_names(path, root, name), part=part_of.get(path))
        for name in classes
        for path in found[name]
    ]


def _letters(text: str) -> str:
    return re.sub(r"[^a-z]", "", text.lower())


def _path_names(path: Path, root: Path, class_name: str) -> tuple[str, ...]:
    return f"{class_name}/{path.stem}", f"{class_name}/{path.name}", path.relative_to(root).as_posix()


def _name(sources: Sequence[_Source], hashes: Sequence[str], root: Path) -> tuple[list[str], list[_Source], list[str]]:
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


def _load_rendered(dataset: Mapping[str, Any], cache: Path) -> ImageSet:
    # here, so that reading files does not load the drawing code
    from steeldefect.data.rendered import CLASSES, RENDER_RECIPE, render

    size = _positive(dataset, "image_size", None)
    parameters: dict[str, Any] = {"per_class": _positive(dataset, "per_class", None), "image_size": size}
    parameters |= {key: dataset[key] for key in ("seed", "difficulty", "crops_per_plate") if key in dataset}
    if "crops_per_plate" in parameters:
        parameters["crops_per_plate"] = tuple(parameters["crops_per_plate"])

    def make(path: Path) -> dict[str, Any]:
        images, labels, plates, names = render(**parameters)
        np.save(path, images)
        return {"labels": labels.tolist(), "plates": plates.tolist(), "names": list(names)}

    content = digest({"rendered": parameters, "recipe": RENDER_RECIPE})
    images, table = cached(cache, content, (parameters["per_class"] * len(CLASSES), size, size), make)
    labels, plates = np.array(table["labels"], np.int64), np.array(table["plates"], np.int64)
    return ImageSet(images, labels, tuple(table["names"]), tuple(CLASSES), content, plates, dataset["name"])
