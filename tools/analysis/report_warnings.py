"""What a user should know of a distillation before trusting it."""

from __future__ import annotations

from typing import List, NamedTuple, Optional

import numpy as np
from report_runs import Curve, Run

#: Of the largest entropy; two timesteps of a thousand have 0.10.
COLLAPSED = 0.11
#: Spread of features between images, as a share of their size.
NO_SPREAD = 1e-3
#: Fewer points than this say nothing of a trend.
LEAST_POINTS = 9


class Check(NamedTuple):
    """What was looked at.

    Attributes:
        passed: What holds if there is no warning.
        warning: None where it holds.
        skipped: Why it could not be looked at; None where it was.
    """

    passed: str
    warning: Optional[str] = None
    skipped: Optional[str] = None


def check(run: Run) -> List[Check]:
    """Look for each sign that a run went wrong."""
    checks = [check_end(run), check_finite(run)]
    learned = not is_still(run.records)
    if learned:
        checks.append(check_policy(run.records[-1]))
        checks.append(
            check_trend(
                'the reward rose',
                run.curves.get('reward', []),
                'The reward is flat: it ended no higher than it began, so '
                'that the decoder learned nothing to reward the policy by. '
                'Look at the labels, at model.decoder, and at how long the '
                'run was.',
            )
        )
    checks.append(check_features(run.curves.get('feature_relative_std', [])))
    falling = [(i, -loss) for i, loss in run.curves.get('loss_distill', [])]
    checks.append(
        check_trend(
            'the distillation loss fell',
            falling,
            'The distillation loss did not fall: the student learned nothing '
            'from the teacher. Look at the learning rate, and at the layer.',
        )
    )
    return checks


def is_still(records: List[dict]) -> bool:
    """Return whether a policy never moved: it is fixed, or uniform."""
    first = records[0]['probabilities']
    return len(first) == 1 or (
        np.ptp(first) == 0
        and all(record['probabilities'] == first for record in records)
    )


def check_end(run: Run) -> Check:
    passed = 'the run reached its end'
    last = run.records[-1]
    if 'max_iters' not in last:
        return Check(passed, skipped='its length was not logged')
    if last['iter'] >= last['max_iters']:
        return Check(passed)
    return Check(
        passed,
        f'The run stopped, or still runs: the policy was last recorded at '
        f'iteration {last["iter"]} of {last["max_iters"]}.',
    )


def check_finite(run: Run) -> Check:
    """Look for losses and statistics that are NaN or infinite."""
    passed = 'all that was logged is finite'
    for name, curve in run.curves.items():
        for iteration, value in curve:
            if not np.isfinite(value):
                return Check(
                    passed,
                    f'{name} became {value} at iteration {iteration}: the '
                    'student is worthless. Lower the learning rate, or look '
                    'for images that are not finite.',
                )
    return Check(passed)


def check_policy(record: dict) -> Check:
    """Look whether a policy still tries several timesteps.

    By the entropy of the mean distribution over the batch: images that have
    one timestep each, but not the same, are no collapse.
    """
    probs = np.array(record['probabilities'])
    probs = probs / probs.sum()
    entropy = -(probs * np.log(np.where(probs > 0, probs, 1))).sum()
    share = entropy / np.log(len(probs))
    at = record['timesteps'][int(probs.argmax())]
    warning = (
        f'The policy collapsed: its entropy is {share:.0%} of the largest, '
        f'most of it at t = {at}, and hardly any other timestep is tried. '
        'Lay a probe beside it (tools/analysis/probe_timesteps.py), or raise '
        "TimestepPolicyHook's entropy_floor."
    )
    return Check(
        'the policy still tries several timesteps',
        warning if share < COLLAPSED else None,
    )


def check_features(spread: Curve) -> Check:
    """Look whether the teacher tells images apart."""
    passed = "the teacher's features differ between images"
    if not spread:
        return Check(passed, skipped='feature_relative_std was not logged')
    if spread[-1][1] >= NO_SPREAD or not np.isfinite(spread[-1][1]):
        return Check(passed)
    return Check(
        passed,
        "The teacher's features have variance zero: they are the same for "
        f'all images (spread {spread[-1][1]:.1e} of their size). Take '
        "another layer, and check the teacher's weights.",
    )


def check_trend(passed: str, curve: Curve, warning: str) -> Check:
    if len(curve) < LEAST_POINTS:
        return Check(
            passed,
            skipped=f'{len(curve)} points were logged, {LEAST_POINTS} needed',
        )
    return Check(passed, None if rises(curve) else warning)


def rises(curve: Curve) -> bool:
    """Return whether the last third of a curve lies above its beginning.

    Above the first third by more than three standard errors of the difference,
    or, where all was learned before the first third ended, above the first
    point by more than four standard deviations.
    """
    values = np.array([value for _, value in curve])
    third = len(values) // 3
    first, last = values[:third], values[-third:]
    error = np.sqrt((first.var(ddof=1) + last.var(ddof=1)) / third)
    gain = last.mean() - first.mean()
    quick = last.mean() - values[0] > 4 * last.std(ddof=1)
    return bool(gain > 3 * error or (quick and gain >= 0))
