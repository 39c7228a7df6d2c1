"""What a mix holds: its name, how many images a class it adds to the originals, and how long it trains."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from steeldefect.runs.errors import nearest, require

# where the images that a mix adds to the originals come from (protocol, "What makes a comparison honest")
KINDS = ("bank", "shuffled", "classical", "oversampled", "real_extra")
FROM_BANK = ("bank", "shuffled")
SEEDED = ("shuffled", "classical")
ORG20_SHARE = 0.8  # paper: section 4.3, the winning mix; its updates are the budget of schedule=fixed_steps
ORG20 = {"kind": "bank", "synthetic_share": ORG20_SHARE, "total": None, "balance": "real", "seed": None}
ORG100 = ORG20 | {"synthetic_share": 0.0}


def check_mix(mix: Mapping[str, Any], real_per_class: int | None) -> None:
    """`UserError` unless the config group `mix` says one thing that can be made."""
    kind, share, total = mix["kind"], mix["synthetic_share"], mix["total"]
    require(kind in KINDS, lambda: f"mix.kind={kind}: {nearest(str(kind), KINDS)}")
    balances = ("real", "uniform")
    require(mix["balance"] in balances, lambda: f"mix.balance={mix['balance']}: {nearest(mix['balance'], balances)}")
    if total is not None:
        whole = isinstance(total, int) and not isinstance(total, bool) and total > 0
        require(whole, f"mix.total={total}: must be null or a whole number from 1 up")
        require(share is None, f"mix.total={total} and mix.synthetic_share={share}: give one, set the other to null")
        require(mix["balance"] == "real", f"mix.balance={mix['balance']}: mix.total fills up in the real balance only")
        require(kind in FROM_BANK, f"mix.total={total}: mix.kind={kind} adds by mix.synthetic_share")
    else:
        number = isinstance(share, int | float) and not isinstance(share, bool)
        require(number and 0 <= share <= 1, f"mix.synthetic_share={share}: must lie in [0, 1]")
        if kind not in FROM_BANK:
            require(share < 1, f"mix.synthetic_share={share:g}: mix.kind={kind} keeps the originals, give less than 1")
    seed = mix["seed"]
    whole = isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0
    if kind in SEEDED:
        require(whole, f"mix.seed={seed}: mix.kind={kind} draws from a seed, give a whole number from 0 up")
    else:
        require(seed is None, f"mix.seed={seed}: mix.kind={kind} draws nothing, leave it null")
    require(
        kind != "real_extra" or real_per_class is not None,
        "mix.kind=real_extra: all real images are in use; set real_per_class=k, then it adds others of them",
    )


def mix_name(mix: Mapping[str, Any]) -> str:
    """`org20` for a synthetic share of 0.8: the paper names a mix after the share of originals.

    The controls bear the name of their kind, with what differs from org20's size behind it (`real_extra-org50`); a mix that
    fills up the smaller classes says so (`org20-uniform`).
    """
    size = f"org{round(100 * (1 - mix['synthetic_share']), 6):g}" if mix["total"] is None else str(mix["total"])
    balance = "-uniform" if mix["balance"] == "uniform" and mix["synthetic_share"] else ""
    if mix["kind"] == "bank":
        return f"{size}{balance}" if mix["total"] is None else f"bank{size}"
    return (mix["kind"] if mix["synthetic_share"] == ORG20_SHARE else f"{mix['kind']}-{size}") + balance


def draws_from_bank(mix: Mapping[str, Any]) -> bool:
    return mix["kind"] in FROM_BANK and mix["synthetic_share"] != 0


def keeps_originals(mix: Mapping[str, Any]) -> bool:
    """False for org0 (and its like), synthetic images alone."""
    return mix["synthetic_share"] != 1


def added_counts(real: Sequence[int], mix: Mapping[str, Any], left: Sequence[int] | None = None) -> list[int]:
    """Images a class that the mix adds to `real` images a class, whatever their kind.

    A given share s: n_c x s / (1 - s), rounded (paper: Table 2); s = 1: 8000/1260 x all real, shared out by largest
    remainder; `total`: up to so many images in all. `balance=uniform` gives the same number, filling up the smaller
    classes first. `left`: what there is (of real images that are not in use), where the mix may want more.
    """
    n, share, total = sum(real), mix["synthetic_share"], mix["total"]
    if total is not None:
        require(
            n <= total,
            f"mix.total={total}: there are {n} real images already; this mix is for low data, set real_per_class",
        )
        counts = _shared_out(total - n, real)
    elif share == 1:
        counts = _shared_out(round(n * 8000 / 1260), real if mix["balance"] == "real" else [1] * len(real))
    else:
        ratio = share / (1 - share)
        counts = [round(n_c * ratio) for n_c in real]
        if mix["balance"] == "uniform":
            counts = _filled_up(real, sum(counts))
    return counts if left is None else [min(pair) for pair in zip(counts, left, strict=True)]


def _shared_out(total: int, weights: Sequence[int]) -> list[int]:
    exact = [total * weight / sum(weights) for weight in weights]
    counts = [math.floor(value) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda c: (counts[c] - exact[c], c))
    for c in by_remainder[: total - sum(counts)]:
        counts[c] += 1
    return counts


def _filled_up(real: Sequence[int], total: int) -> list[int]:
    level = next(x for x in range(max(real) + total, -1, -1) if sum(max(0, x - n) for n in real) <= total)
    counts = [max(0, level - n) for n in real]
    for c in sorted(range(len(real)), key=lambda c: (real[c] > level, c))[: total - sum(counts)]:
        counts[c] += 1
    return counts


def phase_updates(
    settings: Mapping[str, Any], schedule: str, phase: str, real: Sequence[int], left: Sequence[int] | None = None
) -> int:
    """Updates of one phase of one mix; 0 where the phase is left out.

    schedule=paper: epochs x batches of the mix, the last partial one counted (protocol, "Updates"), or, where
    `phases.<phase>.updates` gives org20's budget, that budget in the same proportion.
    schedule=fixed_steps: every mix gets org20's. `left` is as in `added_counts`.
    """
    given = settings["phases"][phase]
    if given is None:
        return 0
    batch = settings["optimizer"]["batch_size"]
    reference = math.ceil(phase_images(real, ORG20, phase, None) / batch)
    own = math.ceil(phase_images(real, settings["mix"], phase, left) / batch)
    batches = reference if schedule == "fixed_steps" else own
    if given["updates"] is None:
        return int(given["epochs"] * batches)
    return max(1, round(given["updates"] * batches / reference))


def fills_up(images: int, batch: int) -> bool:
    """Whether the last batch of an epoch is filled up: one that would hold less than a quarter of `batch`.

    Batch normalisation takes its statistics from that batch, once an epoch, and its gradient counts as much as any. With
    1,026 images and batches of 64 it had 2, and MobileNetV2 ended with 70 % of its own training images right, where splits
    that left 41 and 57 gave 95 and 96 %.
    Fewer images than `batch` make one batch of all.
    """
    return images > batch and 0 < images % batch < batch / 4


def judge_updates(settings: Mapping[str, Any], real: Sequence[int]) -> int:
    """Updates of a classifier that judges images: both phases of the scale under fixed_steps, in one."""
    own = {
        **settings,
        "mix": ORG20,
        "phases": settings["scale"]["phases"],
        "optimizer": settings["quality"]["optimizer"],
    }
    return sum(phase_updates(own, "fixed_steps", phase, real) for phase in ("initial", "retrain"))


def phase_images(real: Sequence[int], mix: Mapping[str, Any], phase: str, left: Sequence[int] | None) -> int:
    originals = sum(real) if keeps_originals(mix) else 0
    if phase == "initial" and originals:
        return originals
    # the number of images is the same for either balance
    return originals + sum(added_counts(real, {**mix, "balance": "real"}, left))


def bank_count(settings: Mapping[str, Any], real: Sequence[int]) -> int:
    """Images in the bank: `bank.count`, or more where the largest class of org0 or of this mix needs it."""
    needed = added_counts(real, ORG100 | {"synthetic_share": 1.0})
    if settings["mix"]["kind"] in FROM_BANK:
        needed += added_counts(real, settings["mix"])
    return max(settings["bank"]["count"], len(real) * max(needed))


def as_run(mix: Mapping[str, Any], schedule: str) -> dict[str, Any]:
    """The mix that is trained: repeating the originals changes nothing where the updates are fixed, so it is org100."""
    same = mix["kind"] == "oversampled" and schedule == "fixed_steps" and mix["balance"] == "real"
    return dict(ORG100) if same else dict(mix)
