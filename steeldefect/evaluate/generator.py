"""All figures of one generator, measured on its bank: the record that tables of generators are made of."""

import csv
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from steeldefect.classify.judge import load_judge, train_judge
from steeldefect.data.bank import pick, read_bank
from steeldefect.data.copies import Nearest, nearest, pair_sheet, scene_weights, threshold
from steeldefect.data.resize import resize
from steeldefect.evaluate.synthesis import as_drawn
from steeldefect.gan.features import features_of
from steeldefect.gan.quality import Figures, Pool, diversity_shares, figures, over_classes, real_pool
from steeldefect.runs.context import Context
from steeldefect.runs.device import available_threads, gpu_name, torch_device
from steeldefect.runs.environment import command_line, git_commit, machine, versions
from steeldefect.runs.errors import require
from steeldefect.runs.identities import RECIPES, quality_identity
from steeldefect.runs.identity import digest
from steeldefect.runs.loggers import public
from steeldefect.runs.store import write_json

log = logging.getLogger(__name__)
Part = tuple[np.ndarray, np.ndarray]


def evaluate_generator(context: Context) -> str:
    """The id of the artifact `quality/<id>/`: record.json, quality.csv and nearest_pairs.png, made if not there yet.

    The bank must be there. Held-out real images are the validation part; the test part is read under
    `quality.on_test` alone, for GAN-train and the real value beside it.
    """
    require(
        len(context.split.validation) > 0,
        "split.validation_fraction=0: a generator is held against validation images, and there are none; raise it",
    )
    store, bank_id = context.store, digest(context.bank_identity)
    bank = read_bank(store.need("banks", bank_id, context.command("synthesize")), context.split_id)
    identities, chosen = _judges(context, bank_id, bank)
    identity = quality_identity(
        context.settings, context.split_id, context.gan_id, bank_id, {name: digest(i) for name, i in identities.items()}
    )
    identifier = digest(identity)
    with store.write("quality", identity) as work:
        if work is not None:
            _train_judges(context, identities, bank, chosen)
            found, sizes = _measured(context, bank)
            found |= _judged(context, identities, bank)
            copies, copied = _copies(context, bank)
            found["copies_share"] = copies["share"]
            record = _record(context, identifier, bank_id, identities, found, copies)
            record |= {"set_sizes": sizes, "gan_train_images": len(chosen)}
            write_json(work.folder / "record.json", record)
            copied.save(work.folder / "nearest_pairs.png")
            _write_table(context, found, work.folder / "quality.csv")
            work.summary |= {"all": {name: over_classes(values) for name, values in found.items()}}
            work.summary["collapsed"] = record["collapsed"]
    return identifier


def _judges(context: Context, bank_id: str, bank: Part) -> tuple[dict[str, dict[str, Any]], np.ndarray]:
    """Identities of the classifiers behind GAN-test (real) and GAN-train (synthetic), and the bank images of the latter."""
    n = len(context.images.classes)
    held = np.bincount(bank[1], minlength=n)
    a_class = min(context.settings["quality"]["gan_train_images"] // n, int(held.min()))
    chosen = pick(bank[1], [a_class] * n, context.images.classes)
    synthetic = {"bank": bank_id, "images": len(chosen)}
    return {
        "real": context.judge_identity("measure"),
        "synthetic": context.judge_identity("measure", synthetic),
    }, chosen


def _train_judges(context: Context, identities: Mapping[str, Any], bank: Part, chosen: np.ndarray) -> None:
    real = context.real
    train_judge(context, identities["real"], context.images.images[real], context.images.labels[real])
    train_judge(context, identities["synthetic"], np.asarray(bank[0][chosen]), bank[1][chosen])


def _measured(context: Context, bank: Part) -> tuple[Figures, list[int]]:
    """KID, density, coverage, diversity and spectrum with their real values; how many images a class's sets have."""
    quality, classes = context.settings["quality"], len(context.images.classes)
    device = torch_device(context.settings["trainer"]["accelerator"])
    reference = real_pool(context, context.split.validation, device)
    real = real_pool(context, context.real, device)
    # no set can use more than its reference has, so this many let every draw be another
    most = np.bincount(reference.labels, minlength=classes) * quality["draws"]
    wanted = np.minimum(most, np.bincount(bank[1], minlength=classes)).tolist()
    chosen = pick(bank[1], wanted, context.images.classes)
    images = np.asarray(bank[0][chosen])
    features = features_of(images, quality["feature_size"], device)
    drawn = as_drawn(context, context.store.folder("banks", digest(context.bank_identity)), chosen)
    synthetic = Pool(images, bank[1][chosen], features, drawn=drawn)
    found = figures(reference, real, synthetic, classes, quality["draws"], quality["neighbours"])
    return found, [min(pool.largest_set(c) for pool in (reference, real, synthetic)) for c in range(classes)]


def _judged(context: Context, identities: Mapping[str, Any], bank: Part) -> Figures:
    """Recall by class, each scene weighing the same: GAN-test, GAN-train, and what the judge of GAN-test gets on
    held-out real images, to be held beside both."""
    images, quality = context.images, context.settings["quality"]
    part = context.split.test if quality["on_test"] else context.split.validation
    held = images.images[part], images.labels[part]
    scenes = None if context.table is None else context.table.scenes[part]
    weights = np.ones(len(part)) if scenes is None else scene_weights(scenes)
    on_real, on_synthetic = load_judge(context, identities["real"]), load_judge(context, identities["synthetic"])
    classes, count = len(images.classes), min(len(bank[1]), quality["gan_train_images"])
    tested = np.array(bank[0][:count]), bank[1][:count]
    return {
        "gan_test": recall(on_real(tested[0]), tested[1], np.ones(count), classes),
        "gan_test_real": recall(on_real(held[0]), held[1], weights, classes),
        "gan_train": recall(on_synthetic(held[0]), held[1], weights, classes),
    }


def recall(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray, classes: int) -> list[float | None]:
    """Weighted share of each class that is called by its name; their mean is the balanced accuracy."""
    right = logits.argmax(1) == labels
    own = [labels == c for c in range(classes)]
    return [float(np.average(right[of], weights=weights[of])) if of.any() else None for of in own]


def _copies(context: Context, bank: Part) -> tuple[dict[str, Any], Any]:
    """Share of each class above the threshold, the threshold and what it stands on; the nearest pairs as a picture."""
    quality, names = context.settings["quality"], context.images.classes
    size, labels = context.settings["gan"]["image_size"], context.images.labels
    n = min(quality["copies_images"], len(bank[1]))
    images, training = np.array(bank[0][:n]), resize(context.images.images[context.real], size).numpy()
    validation = context.split.validation
    held = resize(context.images.images[validation], size).numpy()
    overlap, threads = quality["copies_min_overlap"], available_threads(context.settings["trainer"]["threads"])

    def search(of: np.ndarray) -> Nearest:
        return nearest(of, training, overlap, quality["copies_transforms"], threads)

    found, beside = search(images), search(held)
    scenes = None if context.table is None else context.table.scenes[validation]
    limit = threshold(beside.value, scenes)
    above = found.value > limit
    own = [bank[1][:n] == c for c in range(len(names))]
    copies = {
        "share": [float(above[of].mean()) if of.any() else None for of in own],
        "threshold": limit,
        "images": n,
        "held_out": len(held),
        "largest": float(found.value.max()),
        "median": float(np.median(found.value)),
        "median_real": float(np.median(beside.value)),
        "same_class": float((labels[context.real][found.partner] == bank[1][:n]).mean()),
    }
    shown = [names[label] for label in bank[1][:n]]
    return copies, pair_sheet(images, training, found, shown, quality["copies_pairs"])


def _record(
    context: Context,
    identifier: str,
    bank_id: str,
    identities: Mapping[str, Any],
    found: Figures,
    copies: dict[str, Any],
) -> dict[str, Any]:
    """Everything the report reads, no path of the machine."""
    settings, classes, store = context.settings, context.images.classes, context.store
    gan = store.manifest("gans", context.gan_id)
    judges = {name: store.manifest("judges", digest(i)) for name, i in identities.items()}
    shares = zip(classes, diversity_shares(found), strict=True)
    below = settings["quality"]["collapsed_below"]
    return {
        "schema": 1,
        "id": identifier,
        "recipe": RECIPES["quality"],
        **{key: settings[key]["name"] for key in ("dataset", "split", "scale", "gan")},
        "real_per_class": settings["real_per_class"],
        **{key: settings[key] for key in ("replicate", "split_seed", "gan_seed", "train_seed")},
        "ids": {
            "dataset": context.images.content,
            "split": context.split_id,
            "gan": context.gan_id,
            "bank": bank_id,
            "judges": {name: manifest["id"] for name, manifest in judges.items()},
        },
        "config": public(settings),
        "classes": list(classes),
        "part": "test" if settings["quality"]["on_test"] else "validation",
        "figures": found,
        "copies": {key: value for key, value in copies.items() if key != "share"},
        "collapsed": [name for name, share in shares if share is not None and share < below],
        "judges": {name: manifest["summary"] for name, manifest in judges.items()},
        "seconds": {"gan": gan["made"]["seconds"]},
        "updates": gan["summary"].get("updates"),
        "precision": context.precision("gan"),
        "environment": {
            "commit": git_commit(),
            "command": command_line(),
            "machine": machine(gpu_name(settings["trainer"]["accelerator"])),
            **versions(),
        },
    }


def _write_table(context: Context, found: Figures, path: Any) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["class", "metric", "value"])
        for metric, values in found.items():
            rows = [("all", over_classes(values)), *zip(context.images.classes, values, strict=True)]
            writer.writerows([name, metric, "" if value is None else f"{value:.6g}"] for name, value in rows)
