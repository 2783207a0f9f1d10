"""Say how much a student has learned from its teacher."""

from __future__ import annotations

from typing import List, Optional

from repfusion_mm.models.policies.verdict import Verdict

#: Share of the variance. A student that predicts the mean has 0. Students of
#: the digits with uniform timesteps, which explain least because they do not
#: see the timestep, have 0.10 to 0.19.
MIN_EXPLAINED = 0.05


def judge_student(records: List[dict]) -> Optional[Verdict]:
    """Judge from the records of a run whether its student learned anything.

    Args:
        records: Of :func:`~repfusion_mm.visualization.read_records`.

    Returns:
        None if the last record has no ``explained_variance``.
    """
    share = records[-1].get('explained_variance')
    if share is None:
        return None
    text = (
        f'the student explains {max(share, 0):.0%} of the variance of the '
        "teacher's features"
    )
    if share >= MIN_EXPLAINED:
        return Verdict(True, text)
    return Verdict(
        False,
        f'The student learned next to nothing: {text}. Train longer, and '
        "check its learning rate, its size and the teacher's layers. Where "
        'timesteps are chosen uniformly, it cannot explain how features '
        'differ between them: compare with a fixed timestep.',
    )
