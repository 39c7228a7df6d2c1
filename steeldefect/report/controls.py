"""The table of all arms of one classifier beside their differences to each control."""

from collections.abc import Sequence

from steeldefect.report.arms import Arms
from steeldefect.report.tables import CONTROLS, TITLES, Entry, Table, contrasted, entry


def controls_table(arms: Arms, classifier: str, mixes: Sequence[str], metric: str) -> Table:
    """Mixes by (the figure itself, the difference to each control that the table holds); percent, paired by replicate."""
    controls = [arm for arm in CONTROLS if arm in mixes]
    rows = []
    for mix in mixes:
        entries = [entry(arms, [(classifier, mix)], arms.estimate(classifier, mix, metric))]
        for control in controls:
            if not contrasted(mix, control):
                entries.append(Entry(None))
                continue
            found = arms.difference(classifier, mix, control, metric)
            entries.append(entry(arms, [(classifier, mix), (classifier, control)], found))
        rows.append((mix, tuple(entries)))
    title = f"Arms and controls: {TITLES[metric]}, {classifier}, percent ({arms.group.short})"
    return Table(title, metric, arms.group, "arm", (TITLES[metric], *(f"- {arm}" for arm in controls)), tuple(rows))


def controls_tables(arms: Arms, mixes: Sequence[str], declared: Sequence[str]) -> list[Table]:
    """A table a classifier and metric: the declared arms, printed as missing where they are, and all others found."""
    found = list(dict.fromkeys([*mixes, *declared, *arms.mixes]))
    ordered = [mix for mix in found if mix in arms.mixes or not (mix == "oversampled" and _fixed(arms))]
    return [
        controls_table(arms, classifier, ordered, metric) for classifier in arms.classifiers for metric in arms.metrics
    ]


def _fixed(arms: Arms) -> bool:
    # where the number of updates is fixed, repeating the originals gives the images and updates of org100
    return arms.group.schedule == "fixed_steps"
