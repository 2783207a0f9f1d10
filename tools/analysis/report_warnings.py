"""What a user should know of a distillation before trusting it."""

from __future__ import annotations

from typing import List, NamedTuple, Optional

import numpy as np
from report_runs import Curve, Run

#: Of the largest entropy; two timesteps of a thousand have a tenth.
COLLAPSED = 0.1
#: Spread of features between images, as a share of their size.
NO_SPREAD = 1e-3


class Check(NamedTuple):
    """What was looked at.

    Attributes:
        passed: What holds if there is no warning.
        warning: None where it holds.
    """

    passed: str
    warning: Optional[str]


def check(run: Run) -> List[Check]:
    """Look for each sign that a run went wrong, where it was logged."""
    checks = []
    if run.records and len(run.records[-1]['timesteps']) > 1:
        checks.append(check_policy(run.records[-1]))
    reward = run.curves.get('reward')
    if reward:
        flat = (
            'The reward is flat: it ended no higher than it began, so that '
            'the decoder learned nothing to reward the policy by. Look at '
            'the labels, at model.decoder, and at how long the run was.'
        )
        checks.append(
            Check('the reward rose', None if rises(reward) else flat)
        )
    spread = run.curves.get('feature_spread')
    if spread:
        checks.append(check_features(spread[-1][1]))
    distill = run.curves.get('loss_distill')
    if distill:
        fell = rises([(step, -loss) for step, loss in distill])
        stuck = (
            'The distillation loss did not fall: the student learned nothing '
            'from the teacher. Look at the learning rate, and at the layer.'
        )
        checks.append(
            Check('the distillation loss fell', None if fell else stuck)
        )
    return checks


def check_policy(record: dict) -> Check:
    """Look whether a policy still tries several timesteps."""
    share = record['entropy'] / np.log(len(record['timesteps']))
    at = record['timesteps'][int(np.argmax(record['probabilities']))]
    warning = (
        f'The policy collapsed: its entropy is {share:.0%} of the largest, '
        f'most of it at t = {at}, and no other timestep is tried any more. '
        'Lay a probe beside it (tools/analysis/probe_timesteps.py), or raise '
        "TimestepPolicyHook's entropy_floor."
    )
    return Check(
        'the policy still tries several timesteps',
        warning if share < COLLAPSED else None,
    )


def check_features(spread: float) -> Check:
    """Look whether the teacher tells images apart."""
    warning = (
        "The teacher's features have variance zero: they are the same for "
        f'all images (spread {spread:.1e} of their size). Take another '
        "layer, and check the teacher's weights."
    )
    return Check(
        "the teacher's features differ between images",
        warning if spread < NO_SPREAD else None,
    )


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
