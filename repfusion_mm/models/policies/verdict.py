"""Tell a policy that has learned from one that has not."""

from __future__ import annotations

import math
from typing import List, NamedTuple, Optional, Sequence

import numpy as np
import torch

from repfusion_mm.models.policies.reward_table import range_of
from repfusion_mm.visualization.policy_log import moments

#: In nats; a policy that is closer to the maximum entropy is uniform. The
#: uniform distribution over 90% of the timesteps is 0.105 below it.
MIN_ENTROPY_GAP = 0.1
#: Probability of the counted rewards, or of less even ones, if rewards do not
#: depend on t.
SIGNIFICANT = 1e-4
#: Variance of the number of rewards above the mean that a range of t needs.
#: It is about the smaller of the expected numbers above and below.
MIN_VARIANCE = 5
#: Of a correlation matrix; smaller ones are zero but for rounding errors.
MIN_EIGENVALUE = 1e-3
REMEDY = (
    'Check the labels and model.decoder, and measure the timesteps with '
    'tools/analysis_tools/probe_timesteps.py: if none is better than another, '
    'FixedTimestepPolicy is as good.'
)
TRAIN_MORE = (
    'Train longer, or decrease entropy_weight of the policy and entropy_floor '
    'of TimestepPolicyHook.'
)


class Verdict(NamedTuple):
    """Whether a policy has learned anything."""

    learned: bool
    text: str  # what it learned; or why it did not, and what to do


def judge_policy(records: List[dict]) -> Optional[Verdict]:
    """Judge from the records of a run whether its policy learned anything.

    It learned nothing if the entropy of the last record is at its maximum, if
    the reward is not shown to depend on t, or if it ended where the reward is
    low. Rewards are tested over all records, because in the end a policy that
    has learned draws only timesteps of equal rewards.

    Args:
        records: Of :func:`~repfusion_mm.visualization.read_records`.

    Returns:
        None if the policy has one timestep or is not trained.
    """
    last = records[-1]
    maximum = math.log(len(last['timesteps']))
    if not maximum or 'num_rewards' not in last:
        return None
    entropy, (mean, std) = last['entropy'], moments(last)
    uniform = maximum - entropy < MIN_ENTROPY_GAP
    state = f'its entropy is {entropy:.2f} of at most {maximum:.2f} nats'
    where = f't = {mean:.0f} ± {std:.0f}'
    test = compare_ranges(records)
    if test.p_value < SIGNIFICANT:
        excess = preferred_excess(last['probabilities'], test.excess)
        # A policy that depends on the image has an average of about zero.
        at_low = excess < np.nanmin(test.excess) / 4
        if not uniform and not at_low:
            text = (
                f'The policy learned to prefer {where}: {state}, and the '
                'share of rewards above the mean of their batch differs by up '
                f'to {_points(test.excess)} between ranges of t.'
            )
            return Verdict(True, text)
        state = (
            f'it is uniform ({state})' if uniform else f'it ended at {where}'
        )
        reason = f'{state}, although {_describe(test, last["timesteps"])}'
        remedy = f'{TRAIN_MORE} {REMEDY}'
    else:
        if uniform:
            state = f'it is uniform ({state})'
        else:
            state += f': it moved to {where} by chance'
        reason = (
            f'in {test.num_rewards} rewards it is not certain that they '
            f'depend on t (p = {test.p_value:.1g}, not below '
            f'{SIGNIFICANT:g}), and {state}'
        )
        remedy = REMEDY
    return Verdict(False, f'The policy learned nothing: {reason}. {remedy}')


class Comparison(NamedTuple):
    """A comparison of the rewards in R ranges of t."""

    num_rewards: int
    p_value: float  # of a test of whether they differ; 1 if there are too few
    #: R shares of the rewards that are above the mean of their batch, minus
    #: those expected; NaN where there are too few rewards.
    excess: np.ndarray


def compare_ranges(records: List[dict]) -> Comparison:
    """Test whether rewards depend on t.

    The generalized Cochran-Mantel-Haenszel test, of the sums over the tables
    of all records; see
    :class:`~repfusion_mm.models.policies.reward_table.RewardTable`.
    """
    tables = [record for record in records if 'num_rewards' in record]
    rewards, excess, covariance = (
        np.sum([table[name] for table in tables], axis=0)
        for name in ('num_rewards', 'excess_rewards', 'excess_covariance')
    )
    tested = np.diag(covariance) >= MIN_VARIANCE
    shares = np.full(len(rewards), np.nan)
    shares[tested] = excess[tested] / rewards[tested]
    p_value = 1.0
    if tested.sum() > 1:
        scale = np.diag(covariance)[tested] ** 0.5
        correlation = covariance[np.ix_(tested, tested)] / scale[:, None]
        values, vectors = np.linalg.eigh(correlation / scale)
        # The excess of all ranges sums to zero, but for rounding errors.
        kept = values > MIN_EIGENVALUE
        projected = (excess[tested] / scale) @ vectors[:, kept]
        statistic = (projected**2 / values[kept]).sum()
        halves = [kept.sum() / 2, statistic / 2]
        p_value = float(
            torch.special.gammaincc(*torch.tensor(halves, dtype=torch.double))
        )
    return Comparison(int(rewards.sum()), p_value, shares)


def preferred_excess(
    probabilities: Sequence[float], excess: np.ndarray
) -> float:
    """Average the excess of R ranges over the timesteps of a policy."""
    weights = np.array(probabilities)
    ranges = range_of(np.arange(len(weights)), len(excess), len(weights))
    return float(weights @ np.nan_to_num(excess)[ranges])


def _points(excess: np.ndarray) -> str:
    spread = np.nanmax(excess) - np.nanmin(excess)
    return f'{100 * spread:.0f} percentage points'


def _describe(test: Comparison, timesteps: List[int]) -> str:
    """Name the ranges of t with the most and the fewest high rewards."""
    actions = np.arange(len(timesteps))
    ranges = range_of(actions, len(test.excess), len(timesteps))
    names = []
    for index in (np.nanargmax(test.excess), np.nanargmin(test.excess)):
        inside = np.array(timesteps)[ranges == index]
        ends = dict.fromkeys((inside[0], inside[-1]))
        names.append(f't = {" to ".join(map(str, ends))}')
    return (
        'rewards above the mean of their batch are '
        f'{_points(test.excess)} more frequent at {names[0]} than at '
        f'{names[1]}'
    )
