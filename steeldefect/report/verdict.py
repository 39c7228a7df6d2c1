"""The one question of a study, answered in words by the rule that PLAN.md states (protocol, "Intervals")."""

from collections.abc import Sequence

from steeldefect.report.arms import Arms, Missing
from steeldefect.report.differences import (
    FEWEST,
    PRIMARY_CLASSIFIER,
    PRIMARY_CONTROLS,
    PRIMARY_MIX,
    Contrast,
    contrast,
    is_primary_group,
    is_question,
)
from steeldefect.report.statistics import LEVEL, Estimate
from steeldefect.report.tables import TITLES, UNIFORM, Entry


def asked(arms: Arms) -> str | None:
    """The classifier of which the question is answered: the primary one, or the only one there is; None: no question."""
    if not is_question(arms.group):
        return None
    others = [c for c in arms.classifiers if c != PRIMARY_CLASSIFIER]
    if len(arms.classifiers) == 1 and others:
        return others[0]
    return PRIMARY_CLASSIFIER if PRIMARY_CLASSIFIER in arms.classifiers or is_primary_group(arms.group) else None


def question(arms: Arms, classifier: str, metric: str) -> tuple[tuple[Contrast, ...], str]:
    """The two contrasts of the primary hypothesis, and what they say together.

    Where the mixes fill up small classes (`org20-uniform`), and only there, it is asked of them and of `classical-uniform`.
    """
    filled = PRIMARY_MIX not in arms.mixes and PRIMARY_MIX + UNIFORM in arms.mixes
    mix, controls = PRIMARY_MIX, PRIMARY_CONTROLS
    if filled:
        mix, controls = mix + UNIFORM, (controls[0], *(arm + UNIFORM for arm in controls[1:]))
    trained = [set(arms.runs(classifier, each, metric)) for each in (mix, *controls)]
    shared = set.intersection(*trained)
    whole = all(trained)
    own = tuple(contrast(arms, classifier, mix, arm, metric, shared if whole else None) for arm in controls)
    what = f"{classifier}, {mix} against the better of {' and '.join(controls)}, {TITLES[metric]}"
    return own, f"{what}: {_verdict(own)}"


def _verdict(own: Sequence[Contrast]) -> str:
    judged = [(one, one.found) for one in own if isinstance(one.found, Estimate)]
    if len(judged) < len(own):
        reasons = [f"{one.mix} - {one.arm} is {one.found.why}" for one in own if isinstance(one.found, Missing)]
        return f"cannot be judged, {' and '.join(reasons)}."
    # the control with the higher mean leaves the smaller difference
    (better, found), *others = sorted(judged, key=lambda pair: pair[1].mean)
    head = f"the better one is {better.arm}, the difference to it {Entry(found, '', True).text()}"
    head += "".join(f", to {one.arm} {Entry(each, '', True).text()}" for one, each in others)
    if found.n_runs < FEWEST:
        return f"{head}; nothing is said of fewer than {FEWEST} pairs."
    if all(each.low is not None and each.low > 0 and _agrees(one) for one, each in judged):
        return f"{head}, and both intervals lie above 0: {better.mix} **helps**."
    if found.high is not None and found.high < 0 and _agrees(better):
        return f"{head}: {better.mix} **hurts**."
    return f"{head}: **not shown** that {better.mix} helps or hurts{_why(judged, better)}."


def _why(judged: Sequence[tuple[Contrast, Estimate]], better: Contrast) -> str:
    """Why nothing is shown: what the permutation by scene takes back, else how small a difference n could have shown."""
    of = [
        one for one, each in judged if each.low is not None and each.high is not None and not each.low <= 0 <= each.high
    ]
    if better in of or len(of) == len(judged):
        told = [
            f"that to {one.arm} has no permutation by scene, which takes two thirds of the declared pairs and the "
            "predictions of every cell"
            if one.p_by_scene is None
            else f"the permutation by scene of that to {one.arm} does not agree, p = {one.p_by_scene:.3f}"
            for one in of
            if not _agrees(one)
        ]
        if told:
            return f"; {', '.join(told)}"
    return f"; this n could have shown {100 * better.smallest:.1f} points" if better.smallest else ""


def _agrees(one: Contrast) -> bool:
    return one.p_by_scene is not None and one.p_by_scene < 1 - LEVEL
