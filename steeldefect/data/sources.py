"""Read a data set into one gray uint8 array, whatever its layout; decoded once, kept in a verified cache."""

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median_low
from typing import Any, TypeVar

import numpy as np
from PIL import UnidentifiedImageError

from steeldefect.data.decode import FITS, MAX_PIXELS, Facts, Reading, cached, decode_with_facts, new_array
from steeldefect.data.layouts import (
    NEU_SIZE,
    Source,
    find_classes,
    find_neu,
    given_folder,
    natural_key,
    neu_root,
    unique_names,
)
from steeldefect.runs.errors import UserError, nearest, require
from steeldefect.runs.identity import digest, file_sha256

log = logging.getLogger(__name__)

DARK = 2**15  # half of 16 bits
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


def load_dataset(dataset: Mapping[str, Any], cache: Path, group: str = "dataset", whole: bool = False) -> ImageSet:
    """The config group `group` as arrays, sorted by class and natural order of the name.

    `whole`: with nothing cut off and nothing mirrored in, whatever `fit` says: what surfaces are compared in.
    Decoded arrays are kept as `<cache>/<content>.npy`. UserError names the key, folder or files that are at fault.
    """
    name = dataset["name"]
    if name == "rendered":
        return _load_rendered(dataset, cache)
    if name == "neu_cls":
        root = neu_root(dataset.get("root"))
        classes, sources = find_neu(root)
    elif name == "image_folder":
        root = given_folder(dataset.get("root"), f"{group}.root")
        classes, sources = find_classes(root, f"{group}.root")
    else:
        raise UserError(f"dataset.name={name}: {nearest(name, ('neu_cls', 'image_folder', 'rendered'))}")
    asked = _reading(dataset, NEU_SIZE if name == "neu_cls" else None)
    reading = replace(asked, fit=FITS[0]) if whole else asked
    hashes = _each(lambda source: file_sha256(source.path), sources, root)
    names, sources, hashes = unique_names(sources, hashes, root)
    _tell_copies(root, sources, hashes)
    order = sorted(range(len(names)), key=lambda k: (sources[k].class_name, natural_key(names[k])))
    sources, hashes = [sources[k] for k in order], [hashes[k] for k in order]
    files = [[source.class_name, sha] for source, sha in zip(sources, hashes, strict=True)]
    content = digest({"files": files, **reading.content})
    shape = (len(sources), reading.image_size, reading.image_size)
    images, table = cached(cache, content, shape, lambda path: _decode_all(path, sources, root, reading))
    _tell(root, table, sources, asked)
    labels = np.array([classes.index(source.class_name) for source in sources], np.int64)
    found = [source.part for source in sources]
    parts = tuple(part for part in found if part is not None) if None not in found else None
    return ImageSet(images, labels, tuple(names[k] for k in order), classes, content, None, name, parts)


def _decode_all(path: Path, sources: Sequence[Source], root: Path, reading: Reading) -> dict[str, Any]:
    """Straight into the file at `path`, so that a large set needs no memory; what `_tell` says."""
    images = new_array(path, (len(sources), reading.image_size, reading.image_size))
    rows = {source.path: row for row, source in enumerate(sources)}

    def one(source: Source) -> Facts:
        images[rows[source.path]], facts = decode_with_facts(source.path, reading)
        return facts

    found = _each(one, sources, root)
    images.flush()
    counts = {key: sum(getattr(facts, key) for facts in found) for key in ("colour", "oblong")}
    paged = [row for row, facts in enumerate(found) if facts.pages > 1]
    pages = {"paged": len(paged), "first_paged": paged[0], "pages": found[paged[0]].pages} if paged else {}
    scales = Counter(facts.scale for facts in found if facts.scale is not None)
    told = {"scales": [[scale, number] for scale, number in sorted(scales.items())]} if scales else {}
    return {"count": len(found), **counts, **pages, **_depths(sources, found), **told}


def _depths(sources: Sequence[Source], found: Sequence[Facts]) -> dict[str, Any]:
    values = [facts.deepest for facts in found if facts.deepest is not None]
    if not values:
        return {"deepest": 0}
    of_class: dict[str, set[bool]] = defaultdict(set)
    for source, facts in zip(sources, found, strict=True):
        of_class[source.class_name].add(facts.deepest is not None)
    deep, shallow = (sorted(name for name, met in of_class.items() if met == {wide}) for wide in (True, False))
    usual = median_low(values)
    beyond = sum(value.bit_length() > usual.bit_length() for value in values)
    return {"deepest": max(values), "usual": usual, "beyond": beyond, "deep": deep, "shallow": shallow}


def _tell_copies(root: Path, sources: Sequence[Source], hashes: Sequence[str]) -> None:
    alike: dict[str, list[Source]] = defaultdict(list)
    for source, sha in zip(sources, hashes, strict=True):
        alike[sha].append(source)
    torn = [same for same in alike.values() if len({source.class_name for source in same}) > 1]
    if torn:
        first = torn[0][0]
        second = next(source for source in torn[0] if source.class_name != first.class_name)
        shown = " and ".join(str(source.path.relative_to(root)) for source in (first, second))
        log.warning(
            "%s: %d images lie in more than one class, byte for byte (%s%s): which class is right? Remove the other",
            *(root, len(torn), shown, " ..." if len(torn) > 1 else ""),
        )
    copies = sum(n - 1 for same in alike.values() for n in Counter(source.class_name for source in same).values())
    if copies:
        log.info("%s: %d images are byte for byte copies of another of their class, under other names", root, copies)


def _tell(root: Path, table: Mapping[str, Any], sources: Sequence[Source], reading: Reading) -> None:
    """What of the files the gray squares no longer show; an older cache knows nothing of it."""
    if not table:
        return
    if table["colour"]:
        log.warning(
            "%s: %d of %d images are in colour; their gray alone is used", root, table["colour"], table["count"]
        )
    oblong = table.get("oblong", table.get("stretched"))  # an older cache's name of it
    if oblong and reading.fit == FITS[0]:
        log.warning(
            "%s: %d of %d images are not square and are squeezed, which changes shapes: dataset.fit=crop or pad keeps them",
            *(root, oblong, table["count"]),
        )
    if table.get("paged"):
        first = sources[table["first_paged"]].path.relative_to(root)
        log.warning(
            "%s: of %d of %d files only the first page is used (%s: %d pages); save the others as files of their own",
            *(root, table["paged"], table["count"], first, table["pages"]),
        )
    usual = table.get("usual", table["deepest"])
    if reading.bits is None and 0 < usual < DARK:
        bits, beyond = max(8, usual.bit_length()), table.get("beyond")
        log.warning(
            "%s: the 16-bit images reach %d of 65535%s, so they are dark or black; of a camera of fewer bits? Then give "
            "dataset.bits=%d%s",
            *(root, usual, " (median of their maxima)" if beyond else "", bits),
            f" (which {beyond} of them exceed: mend or remove those)" if beyond else "",
        )
    if len(table.get("scales", [])) > 1:
        log.warning(
            "%s: of the float and 32-bit images %s; the same value is another gray in each, and those of the larger scale "
            "may be black: save all on one scale",
            *(root, scales_in_words(table["scales"])),
        )
    if table.get("deep") and table.get("shallow"):
        log.warning(
            "%s: the images of %s have 16 bits, those of %s do not: the format may give the class away; save all alike",
            *(root, ", ".join(table["deep"]), ", ".join(table["shallow"])),
        )


def scales_in_words(scales: Sequence[Sequence[float]]) -> str:
    """`scales`: what white is (0: the image's own largest value) and how many images have it."""
    return ", ".join(
        f"{number:d} are read up to {f'{scale:g}' if scale else 'their own largest value'}" for scale, number in scales
    )


def _each(work: Callable[[Source], Result], sources: Sequence[Source], root: Path) -> list[Result]:
    """`work` on every file, in threads; one UserError for all the files that fail."""

    def guarded(source: Source) -> tuple[Result | None, str]:
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


def _reading(dataset: Mapping[str, Any], size: int | None) -> Reading:
    bits, fit = dataset.get("bits"), dataset.get("fit", FITS[0])
    good = bits is None or (isinstance(bits, int) and not isinstance(bits, bool) and 8 <= bits <= 16)
    require(good, f"dataset.bits={bits}: must be null or a whole number from 8 to 16, such as 12")
    require(fit in FITS, lambda: f"dataset.fit={fit}: {nearest(str(fit), FITS)}")
    return Reading(
        _positive(dataset, "image_size", size),
        _positive(dataset, "max_pixels", MAX_PIXELS),
        None if bits is None else int(bits),
        fit,
    )


def _positive(dataset: Mapping[str, Any], key: str, default: int | None) -> int:
    value = dataset.get(key)
    value = default if value is None else value
    good = isinstance(value, int) and not isinstance(value, bool) and value > 0
    require(good, f"dataset.{key}={'null' if value is None else value}: must be a positive whole number")
    return int(value)  # type: ignore[arg-type]  # checked above


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
