"""What a user should know of a distillation before trusting it."""

from __future__ import annotations

from typing import List

import numpy as np
from report_runs import Curve, Run

#: Of the largest entropy; two timesteps of a thousand have a tenth.
COLLAPSED = 0.1
#: Spread of features between images, as a share of their size.
NO_SPREAD = 1e-3


def find_warnings(run: Run) -> List[str]:
    """Return a sentence for each sign that a run went wrong."""
    warnings = []
    if run.records:
        warnings += check_policy(run.records[-1])
    if run.curves.get('reward') and not rises(run.curves['reward']):
        warnings.append(
            'The reward is flat: it ended no higher than it began, so that '
            'the decoder learned nothing to reward the policy by. Look at '
            'the labels, at model.decoder, and at how long the run was.'
        )
    feature_spread = run.curves.get('feature_spread')
    if feature_spread and feature_spread[-1][1] < NO_SPREAD:
        warnings.append(
            "The teacher's features have variance zero: they are the same "
            f'for all images (spread {feature_spread[-1][1]:.1e} of their '
            "size). Take another layer, and check the teacher's weights."
        )
    distill = run.curves.get('loss_distill')
    if distill and not rises([(step, -loss) for step, loss in distill]):
        warnings.append(
            'The distillation loss did not fall: the student learned nothing '
            'from the teacher. Look at the learning rate, and at the layer.'
        )
    return warnings


def check_policy(record: dict) -> List[str]:
    """Warn if the last record's policy has stopped to try timesteps."""
    num_timesteps = len(record['timesteps'])
    if num_timesteps < 2:
        return []
    share = record['entropy'] / np.log(num_timesteps)
    if share >= COLLAPSED:
        return []
    at = record['timesteps'][int(np.argmax(record['probabilities']))]
    return [
        f'The policy collapsed: its entropy is {share:.0%} of the largest, '
        f'most of it at t = {at}, and no other timestep is tried any more. '
        'Lay a probe beside it (tools/analysis/probe_timesteps.py), or raise '
        "TimestepPolicyHook's entropy_floor."
    ]


def rises(curve: Curve) -> bool:
    """Return whether the last third of a curve lies above the first.

    By more than two standard errors of the difference; a curve of fewer
    than six points is taken to rise.
    """
    values = np.array([value for _, value in curve])
    third = len(values) // 3
    if third < 2:
        return True
    first, last = values[:third], values[-third:]
    error = np.sqrt((first.var(ddof=1) + last.var(ddof=1)) / third)
    return bool(last.mean() - first.mean() > 2 * error)
