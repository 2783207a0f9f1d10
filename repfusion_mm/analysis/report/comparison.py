"""Compare finetunings with training from scratch."""

from __future__ import annotations

import math
import re
from typing import Dict, List, NamedTuple, Optional

from repfusion_mm.analysis.intervals import (
    confidence_interval,
    difference_interval,
)
from repfusion_mm.analysis.report.groups import (
    INIT_CFG,
    Group,
    find_checkpoints,
)
from repfusion_mm.analysis.report.runs import Settings

#: Parts of the names of metrics of which lower values are better.
ERRORS = {
    'loss', 'error', 'nme', 'epe', 'mpjpe', 'mae', 'mse', 'rmse', 'rel', 'log',
    'silog', 'mmr',
}  # fmt: skip


class Comparison(NamedTuple):
    """How a group of finetunings compares with training from scratch."""

    text: str
    #: Whether it is better; None if this is not known.
    better: Optional[bool] = None


def compare_with_scratch(groups: List[Group], metric: str) -> List[Comparison]:
    """Compare each group of pretrained backbones with its baseline.

    The baseline is the group without a pretrained backbone whose settings are
    otherwise equal. If there is none, it is the group whose config has
    'scratch' in its name instead of 'repfusion'.
    """
    scored = [group for group in groups if group.scores(metric)]
    return [
        _compare(group, _find_baseline(group, scored), metric)
        for group in scored
        if _is_pretrained(group)
    ]


def is_lower_better(metric: str) -> bool:
    """Return whether a metric is an error."""
    return not ERRORS.isdisjoint(re.split('[^a-z]+', metric.lower()))


def _is_pretrained(group: Group) -> bool:
    return bool(find_checkpoints(group.settings))


def _other_settings(group: Group) -> Settings:
    return {k: v for k, v in group.settings.items() if not INIT_CFG.match(k)}


def _find_baseline(group: Group, groups: List[Group]) -> Optional[Group]:
    untrained = [other for other in groups if not _is_pretrained(other)]
    for other in untrained:
        if _other_settings(other) == _other_settings(group):
            return other
    name = group.name.replace('repfusion', 'scratch')
    namesakes = [other for other in untrained if other.name == name]
    return namesakes[0] if len(namesakes) == 1 else None


def _compare(
    group: Group, baseline: Optional[Group], metric: str
) -> Comparison:
    if baseline is None:
        return Comparison(
            f'Not checked: whether {group.label} is better than training from '
            'scratch. No such runs with otherwise equal settings were given.'
        )
    names = f'{group.label} and {baseline.label}'
    ours, theirs = (_scores_by_seed(g, metric) for g in (group, baseline))
    paired = [seed for seed in ours if seed in theirs]
    if len(paired) > 1:
        gains = [ours[seed] - theirs[seed] for seed in paired]
        mean, half = confidence_interval(gains)
        how = f'mean difference of {len(paired)} pairs of equal seeds'
    elif len(ours) > 1 and len(theirs) > 1:
        mean, half = difference_interval([*ours.values()], [*theirs.values()])
        how = f'difference of the means of {len(ours)} and {len(theirs)} runs'
    else:
        count = 'One run each'
        if len(ours) + len(theirs) > 2:
            count = f'{len(ours)} and {len(theirs)} seeds'
        return Comparison(
            f'Not checked: which of {names} is better. {count} cannot tell; '
            'train both with the same two or more seeds (randomness.seed).'
        )
    if not math.isfinite(mean):
        return Comparison(
            f'Not checked: which of {names} is better. {metric} is NaN or '
            'infinite in one of the runs.'
        )
    digits = (
        2 if max(map(abs, [*ours.values(), *theirs.values()])) > 1.5 else 4
    )
    result = (
        f'{metric} is {"higher" if mean > 0 else "lower"} by '
        f'{abs(mean):.{digits}f} ± {half:.{digits}f} ({how}, 95% interval).'
    )
    others = _differing_settings(group, baseline)
    if others:
        result += f' They also differ in {others}.'
    if abs(mean) <= half:
        return Comparison(f'{names} are not distinguishable: {result}')
    if (mean > 0) != is_lower_better(metric):
        text = f'{group.label} is better than {baseline.label}: {result}'
        return Comparison(text, better=True)
    return Comparison(
        f'{group.label} is worse than {baseline.label}, which was trained '
        f'from scratch: {result} Check with a probe that the teacher knows '
        'the labels, how much of its variance the student explains, and the '
        'learning rate of the finetuning.',
        better=False,
    )


def _scores_by_seed(group: Group, metric: str) -> Dict[str, float]:
    """Return the scores by seed.

    A run of an unknown seed, or of one that is already a key, has its own key.
    """
    scores: Dict[str, float] = {}
    for i, run in enumerate(group.scored(metric)):
        known = run.seed != '?' and run.seed not in scores
        key = run.seed if known else f'{group.label} {i}'
        scores[key] = run.scores[metric][-1][1]
    return scores


def _differing_settings(group: Group, baseline: Group) -> str:
    """Name some of the settings in which two groups differ."""
    ours, theirs = _other_settings(group), _other_settings(baseline)
    names = sorted(
        key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key)
    )
    return ', '.join(names[:3]) + ' and others' * (len(names) > 3)
