"""Tell a policy that has learned from one that has not."""

from __future__ import annotations

import math
from typing import List, NamedTuple, Optional

import numpy as np
import torch

from repfusion_mm.visualization.policy_log import moments

#: Nats below the maximum entropy. A uniform distribution over 90% of the
#: timesteps is 0.105 below.
UNIFORM = 0.1
#: Probability of the counted rewards, or of less even ones, if rewards do not
#: depend on t.
SIGNIFICANT = 1e-4
#: Variance of the number of rewards above the mean that a range of t needs.
#: It is about the smaller of the expected numbers above and below.
MIN_VARIANCE = 5
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

    It learned nothing if the entropy of the last record is at its maximum, or
    if the reward is not shown to depend on t. The second is tested over all
    records, because in the end a policy that has learned draws only timesteps
    of equal rewards.

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
    uniform = maximum - entropy < UNIFORM
    state = f'its entropy is {entropy:.2f} of at most {maximum:.2f} nats'
    where = f't = {mean:.0f} ± {std:.0f}'
    tables = [
        (record['num_rewards'], record['num_above_mean'])
        for record in records
        if 'num_rewards' in record
    ]
    test = compare_ranges(np.array(tables))
    if test.p_value < SIGNIFICANT:
        reason = _describe(test.excess, last['timesteps'])
        if not uniform:
            return Verdict(
                True,
                f'The policy learned to prefer {where}: {state}; {reason}.',
            )
        reason = f'{state}, although {reason}'
        remedy = f'{TRAIN_MORE} {REMEDY}'
    else:
        num_rewards = sum(sum(rewards) for rewards, _ in tables)
        reason = (
            f'in {num_rewards} rewards there is no sign that they depend on '
            f't (p = {test.p_value:.1g}), and {state}'
        )
        remedy = REMEDY
        if not uniform:
            reason += f': it moved to {where} by chance'
    return Verdict(False, f'The policy learned nothing: {reason}. {remedy}')


class Comparison(NamedTuple):
    """A comparison of the rewards in R ranges of t."""

    p_value: float  # of a test of whether they differ; 1 if there are too few
    #: R shares of the rewards that are above the mean of their batch, minus
    #: the share of all ranges; NaN where there are too few rewards.
    excess: np.ndarray


def compare_ranges(tables: np.ndarray) -> Comparison:
    """Test whether rewards depend on t.

    The generalized Cochran-Mantel-Haenszel test of whether the share of
    rewards above the mean of their batch differs between ranges of t. Each
    record is a stratum, because the share and the policy change during a run.

    Source: N. Mantel, J. Am. Stat. Assoc. 58 (1963), 690-700.

    Args:
        tables: S x 2 x R numbers of rewards, and of those above the mean, of
            S records in R ranges of t.
    """
    rewards, above = tables[:, 0], tables[:, 1]
    total = np.maximum(rewards.sum(1, keepdims=True), 2)
    share = above.sum(1, keepdims=True) / total
    factor = share * (1 - share) * total / (total - 1)
    covariance = np.diag((factor * rewards).sum(0)) - np.einsum(
        'sr,sq->rq', factor / total * rewards, rewards
    )
    tested = np.diag(covariance) >= MIN_VARIANCE
    excess = (above - share * rewards).sum(0)
    shares = np.full(len(excess), np.nan)
    if not tested.any():
        return Comparison(1.0, shares)
    shares[tested] = excess[tested] / rewards.sum(0)[tested]
    values, vectors = np.linalg.eigh(covariance[np.ix_(tested, tested)])
    # The ranges are dependent if all are tested: their excess sums to zero.
    kept = values > 1e-9 * values[-1]
    statistic = ((excess[tested] @ vectors[:, kept]) ** 2 / values[kept]).sum()
    halves = torch.tensor([kept.sum() / 2, statistic / 2], dtype=torch.double)
    return Comparison(float(torch.special.gammaincc(*halves)), shares)


def _describe(excess: np.ndarray, timesteps: List[int]) -> str:
    """Name the ranges of t with the most and the fewest high rewards."""
    ranges = np.arange(len(timesteps)) * len(excess) // len(timesteps)
    best, worst = np.nanargmax(excess), np.nanargmin(excess)
    names = []
    for index in (best, worst):
        inside = np.array(timesteps)[ranges == index]
        names.append(f't = {inside[0]} to {inside[-1]}')
    return (
        'rewards above the mean of their batch are '
        f'{100 * (excess[best] - excess[worst]):.0f} percentage points more '
        f'frequent at {names[0]} than at {names[1]}'
    )
