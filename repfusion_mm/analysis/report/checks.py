"""Check a distillation for signs that it failed."""

from __future__ import annotations

from typing import List, NamedTuple, Optional

import numpy as np

from repfusion_mm.analysis.probe.recommendation import NO, UNKNOWN, YES
from repfusion_mm.analysis.probe.student import (
    BEGINNINGS,
    UNDECIDED,
    WORSE,
)
from repfusion_mm.analysis.probe.verdict import NOTHING, TOO_FEW
from repfusion_mm.analysis.report.runs import Curve, Run
from repfusion_mm.analysis.report.teachers import Progress, read_progress
from repfusion_mm.models.distillers.verdict import judge_student
from repfusion_mm.models.policies.verdict import judge_policy

#: Relative to the maximum entropy. A uniform distribution over two of a
#: thousand timesteps has 0.10.
MIN_ENTROPY = 0.11
#: Standard deviation of features between images, relative to their size.
MIN_FEATURE_STD = 1e-3
#: Of the reward, relative to its first value. With random labels of 1,297
#: images it increased by 1% to 2%, with true ones by 96% or more.
MIN_GAIN = 0.05
#: Number of points that a trend needs.
MIN_POINTS = 9


class Check(NamedTuple):
    """The result of one check."""

    passed: str  # what holds if there is no warning
    warning: Optional[str] = None  # what is wrong and what to do
    skipped: Optional[str] = None  # why nothing was checked


def run_checks(run: Run) -> List[Check]:
    """Run all checks that apply to a distillation or a teacher."""
    if run.is_teacher:
        return check_teacher(run)
    checks = [check_end(run.records[-1]), check_finite(run)]
    if not is_static(run.records):
        checks += [check_learned(run.records), check_policy(run.records[-1])]
        warning = (
            'The reward did not increase, or hardly: the decoder learned '
            'next to nothing. Check the labels, model.decoder and the length '
            'of the run.'
        )
        rewards = run.curves.get('reward', [])
        passed = 'the reward increased'
        checks.append(check_trend(passed, rewards, warning, MIN_GAIN))
    if run.verdict:
        checks.append(check_probe(run.verdict))
    verdict = run.student_verdict
    if any(line.startswith(BEGINNINGS) for line in verdict.splitlines()):
        checks.append(check_backbone(verdict))
    checks.append(check_features(run.curves.get('feature_relative_std', [])))
    warning = (
        'The distillation loss did not decrease: the student learned nothing '
        "from the teacher. Check the learning rate and the teacher's layers."
    )
    falling = [(i, -loss) for i, loss in run.curves.get('loss_distill', [])]
    passed = 'the distillation loss decreased'
    checks.append(check_trend(passed, falling, warning))
    return [*checks, check_student(run.records)]


def check_teacher(run: Run) -> List[Check]:
    """Run all checks that apply to the training of a teacher."""
    warning = (
        'The loss did not decrease: the model learned nothing. Check the '
        'learning rate, and that the images are those that you mean.'
    )
    falling = [(i, -loss) for i, loss in run.curves.get('loss', [])]
    return [
        check_progress(read_progress(run)),
        check_finite(run),
        check_trend('the loss decreased', falling, warning),
    ]


def is_static(records: List[dict]) -> bool:
    """Return whether a policy is not trained: it is fixed or uniform."""
    probs = [record['probabilities'] for record in records]
    trained = 'num_rewards' in records[-1] or np.ptp(probs) > 0
    return len(probs[0]) == 1 or not trained


def check_end(last: dict) -> Check:
    """Check that the last record is of the last iteration."""
    passed = 'the run is complete'
    if 'max_iters' not in last:
        return Check(passed, skipped='its length was not logged')
    warning = (
        'The run stopped early or is still running: the last record of the '
        f'policy is of iteration {last["iter"]} of {last["max_iters"]}.'
    )
    return Check(passed, warning if last['iter'] < last['max_iters'] else None)


def check_progress(progress: Progress) -> Check:
    """Check that a teacher was trained to the end."""
    passed = 'the run is complete'
    if progress.total is None:
        return Check(passed, skipped='its length is not in the config')
    warning = f'The run stopped early or is still running: {progress}.'
    complete = progress.done >= progress.total
    return Check(passed, None if complete else warning)


def check_finite(run: Run) -> Check:
    """Check that no loss is NaN or Inf.

    Other statistics may be: the reward of batches without labels, and norms of
    gradients in steps that mixed precision skips.
    """
    passed = 'all logged losses are finite'
    if not run.curves:
        return Check(passed, skipped='none was logged')
    for name, curve in run.curves.items():
        for iteration, value in curve:
            if 'loss' in name and not np.isfinite(value):
                return Check(
                    passed,
                    f'{name} is {value} at iteration {iteration}: do not use '
                    'the model. Lower the learning rate, or check the '
                    'images for values that are not finite.',
                )
    return Check(passed)


def check_learned(records: List[dict]) -> Check:
    """Check that a policy has learned anything."""
    passed = 'the policy learned to prefer some timesteps'
    verdict = judge_policy(records)
    if verdict is None:
        return Check(passed, skipped='rewards were not counted')
    return Check(passed, None if verdict.learned else verdict.text)


def check_policy(record: dict) -> Check:
    """Check that a policy still explores several timesteps.

    The check takes the entropy of the mean distribution over the batch, so a
    policy that is certain of a different timestep for each image passes.
    """
    from scipy.stats import entropy

    passed = 'the policy explores several timesteps'
    probs = record['probabilities']
    share = entropy(probs, base=len(probs))
    if share >= MIN_ENTROPY:
        return Check(passed)
    mode = record['timesteps'][np.argmax(probs)]
    return Check(
        passed,
        f'The policy collapsed to timesteps around {mode}: its entropy is '
        f'{share:.0%} of the maximum, so it hardly explores other timesteps. '
        'Compare with a probe (tools/analysis_tools/probe_timesteps.py), or '
        'increase entropy_floor of TimestepPolicyHook.',
    )


def check_probe(verdict: str) -> Check:
    """Check that the probe of the same folder found that features help."""
    passed = 'the probe recommends the teacher'
    for line in verdict.splitlines():
        if line in (NOTHING, TOO_FEW) or line.startswith(NO):
            return Check(passed, f'Of the probe: {line}')
        if line.startswith(UNKNOWN):
            return Check(passed, skipped=line)
    if YES in verdict:
        return Check(passed)
    return Check(passed, skipped='probe.txt contains no recommendation')


def check_backbone(verdict: str) -> Check:
    """Check that the student is better than an untrained one."""
    passed = 'for a linear model, the student is better than an untrained one'
    for line in verdict.splitlines():
        if line.startswith(WORSE):
            return Check(passed, line)
        if line.startswith(UNDECIDED):
            return Check(passed, skipped=line)
    return Check(passed)


def check_student(records: List[dict]) -> Check:
    """Check that the student explains some of the teacher's variance."""
    verdict = judge_student(records)
    if verdict is None:
        return Check(
            "the student explains some of the variance of the teacher's "
            'features',
            skipped='explained_variance was not recorded; only one HintLoss '
            "with criterion='l2', which may be part of a SumLoss, has it",
        )
    return Check(verdict.text, None if verdict.learned else verdict.text)


def check_features(relative_std: Curve) -> Check:
    """Check that the teacher's features differ between images."""
    passed = "the teacher's features differ between images"
    if not relative_std:
        return Check(passed, skipped='feature_relative_std was not logged')
    last = relative_std[-1][1]
    if not np.isfinite(last):
        return Check(passed, skipped=f'feature_relative_std is {last}')
    if last >= MIN_FEATURE_STD:
        return Check(passed)
    return Check(
        passed,
        "The teacher's features are the same for all images: their standard "
        f'deviation is {last:.1e} of their size. Choose another layer, and '
        "check the teacher's weights.",
    )


def check_trend(
    passed: str, curve: Curve, warning: str, min_gain: float = 0.0
) -> Check:
    """Check that the last third of a curve is above its beginning.

    Its mean must exceed the mean of the first third by more than three
    standard errors of the difference. If everything was learned within the
    first third, it must exceed the first point by more than four standard
    deviations instead. If ``min_gain`` is given, it must also exceed the first
    point by this share of it.
    """
    curve = [point for point in curve if not np.isnan(point[1])]
    if len(curve) < MIN_POINTS:
        skipped = f'{len(curve)} points were logged, {MIN_POINTS} needed'
        return Check(passed, skipped=skipped)
    values = np.array([value for _, value in curve])
    third = len(values) // 3
    first, last = values[:third], values[-third:]
    error = np.sqrt((first.var(ddof=1) + last.var(ddof=1)) / third)
    gain = last.mean() - first.mean()
    fast = last.mean() - values[0] > 4 * last.std(ddof=1)
    increased = gain > 3 * error or (fast and gain >= 0)
    if min_gain:
        increased &= last.mean() - values[0] >= min_gain * abs(values[0])
    return Check(passed, None if increased else warning)
