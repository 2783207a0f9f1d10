"""Recommend to distill from a teacher, or not."""

from __future__ import annotations

from typing import Dict, Mapping, NamedTuple, Optional, Tuple

from repfusion_mm.analysis.probe.baselines import Untrained
from repfusion_mm.analysis.probe.measurement import (
    NUM_ERRORS,
    Key,
    Measurement,
    difference,
    smallest,
)
from repfusion_mm.analysis.probe.results import find_best, is_undecided
from repfusion_mm.analysis.probe.verdict import is_informative

#: Begins the recommendation not to distill, also for those that read it.
NO = 'Do not distill from this teacher yet: '
YES = 'Distill from this teacher: '
UNKNOWN = 'These labels cannot tell whether to distill from this teacher: '
ADVICE = (
    'Train the teacher longer, take one that was trained on more images of '
    'this kind (docs/teachers.md), or try other layers.'
)
MORE_LABELS = 'More labels would tell.'
#: Which the test of permuted labels compares it with.
CONSTANT = 'a constant'


class Recommendation(NamedTuple):
    """Whether to distill from a teacher.

    Attributes:
        distill: True or False; None if the labels cannot tell.
        text: The recommendation and its reason.
    """

    distill: Optional[bool]
    text: str


def recommend(
    measurements: Mapping[Key, Measurement],
    baselines: Mapping[str, Measurement],
    untrained: Untrained,
) -> Recommendation:
    """Compare a teacher with what costs no teacher.

    To distill is recommended if the labels are not as good as random, R² of
    the best timestep is above zero, and it is above that of raw pixels and of
    each untrained copy of the network by 1.645 standard errors of the
    difference; not to, if it is not above one of them at all.

    Args:
        measurements: Those of the teacher.
        baselines: Those of :func:`~.baselines.measure_baselines`.
        untrained: Those of :func:`~.baselines.compare_untrained`.
    """
    if is_undecided(measurements):
        return Recommendation(None, f'{UNKNOWN}they are too few.')
    if not is_informative(measurements):
        return Recommendation(
            False, f'{NO}it predicts labels permuted at random as well.'
        )
    best = measurements[find_best(measurements)]
    margins = compare(best, baselines, untrained)
    described = ', '.join(
        f'{mean:+.3f} ± {error:.3f} over {name}'
        for name, (mean, error) in margins.items()
    )
    below = [name for name, (mean, _) in margins.items() if mean <= 0]
    if below:
        return Recommendation(
            False,
            f'{NO}for a linear model its features are no better than '
            f'{" and ".join(below)} (R² {described}). {ADVICE}',
        )
    unsure = [
        name
        for name, (mean, error) in margins.items()
        if name != CONSTANT and not mean > NUM_ERRORS * error
    ]
    if unsure:
        return Recommendation(
            None,
            f'{UNKNOWN}its features are better than {" and ".join(unsure)}, '
            f'but within the noise (R² {described}). {MORE_LABELS}',
        )
    return Recommendation(
        True,
        f'{YES}a linear model predicts the labels from its features better '
        f'than without it (R² {described}).',
    )


def compare(
    best: Measurement,
    baselines: Mapping[str, Measurement],
    untrained: Untrained,
) -> Dict[str, Tuple[float, float]]:
    """Return R² in excess of each baseline, with its standard error."""
    margins = {
        CONSTANT: difference(best, baselines['no image']),
        'raw pixels': difference(best, baselines['raw pixels']),
    }
    margins['an untrained copy of the teacher'] = smallest(
        difference(untrained.trained, copy) for copy in untrained.copies
    )
    return margins
