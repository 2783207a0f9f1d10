import math

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from repfusion_mm.models.policies.verdict import (
    compare_ranges,
    judge_policy,
)
from tests.helpers.report_files import (
    count_shares,
    policy_record,
    reward_table,
)

FLAT = [0.5] * 10
PEAK = [0.45, 0.5, 0.55, 0.7, 0.6, 0.5, 0.45, 0.4, 0.4, 0.35]
#: Draws of a policy that has settled on one range of timesteps.
SETTLED = reward_table([0] * 3 + [1000] + [0] * 6, [0] * 3 + [800] + [0] * 6)


def record(iteration, counts, mode=300, width=20.0):
    entry = policy_record(iteration, mode, width, **counts)
    probs = np.array(entry['probabilities'])
    entropy = -(probs * np.log(np.maximum(probs, 1e-30))).sum()
    return dict(entry, entropy=float(entropy))


def run_of(shares, width, settled=3):
    counts = [count_shares(shares)] * 3 + [SETTLED] * settled
    return [record(i, c, width=width) for i, c in enumerate(counts)]


def test_a_policy_that_has_learned_is_said_to_have_learned():
    """In the end it draws only timesteps of equal rewards."""
    verdict = judge_policy(run_of(PEAK, width=20.0))
    assert verdict.learned
    assert 'prefer t = 300 ± 20' in verdict.text
    assert 'entropy is 4.41 of at most 6.91 nats' in verdict.text
    assert 'differs by up to 25 percentage points' in verdict.text


def test_a_uniform_policy_has_learned_nothing():
    verdict = judge_policy(run_of(FLAT, width=1e5, settled=0))
    assert not verdict.learned
    assert 'learned nothing: in 3000 rewards it is not' in verdict.text
    assert '(p = 1, not below 0.0001)' in verdict.text
    assert 'it is uniform (its entropy is 6.91 of at most' in verdict.text
    assert 'chance' not in verdict.text
    assert 'probe_timesteps.py' in verdict.text


def test_a_uniform_policy_that_could_have_learned_names_the_best_timesteps():
    verdict = judge_policy(run_of(PEAK, width=1e5, settled=0))
    assert not verdict.learned
    words = (
        '35 percentage points more frequent at t = 300 to 399 than at t = 9'
    )
    assert words in verdict.text
    assert 'decrease entropy_weight' in verdict.text


@pytest.mark.parametrize('width', [20.0, 0.1])
def test_a_policy_that_moved_without_a_reason_has_learned_nothing(width):
    verdict = judge_policy(run_of(FLAT, width))
    assert not verdict.learned
    assert f'moved to t = 300 ± {width:.0f} by chance' in verdict.text


def test_the_entropy_is_that_of_single_images():
    """A policy may be certain of another timestep for each image."""
    records = run_of(PEAK, width=1e5)
    assert not judge_policy(records).learned
    records[-1]['entropy'] = math.log(1000) - 0.11
    assert judge_policy(records).learned


def test_policies_that_are_not_trained_are_not_judged():
    assert judge_policy([policy_record(1)]) is None
    one = dict(timesteps=[9], probabilities=[1.0], **count_shares([0.5]))
    assert judge_policy([one]) is None


def test_records_of_an_older_version_are_left_out():
    old = policy_record(0)
    new = run_of(PEAK, width=20.0)
    assert judge_policy([old, *new]) == judge_policy(new)


def test_one_batch_is_tested_as_a_contingency_table():
    rewards = np.array([90, 150, 60, 200])
    above = np.array([50, 80, 25, 110])
    statistic, expected, *_ = chi2_contingency([above, rewards - above])
    test = compare_ranges([reward_table(rewards, above)])
    # The variance of the hypergeometric distribution is N / (N - 1) larger.
    assert test.p_value == pytest.approx(expected, rel=0.05)
    assert test.p_value > expected
    assert statistic > 3
    shares = above / rewards - above.sum() / rewards.sum()
    np.testing.assert_allclose(test.excess, shares, rtol=1e-4)


def test_a_share_that_changes_with_the_policy_is_no_dependence():
    """Pooled, the second range has 77% and the first one 53%."""
    tables = np.array([[[900, 100], [450, 50]], [[100, 900], [80, 720]]])
    rewards, above = tables.sum(0)
    assert chi2_contingency([above, rewards - above]).pvalue < 1e-4
    records = [reward_table(*table) for table in tables]
    assert compare_ranges(records).p_value == pytest.approx(1)


def test_the_test_is_calibrated():
    """Also with batches of few rewards, most of them on one side."""
    rng = np.random.default_rng(1)
    p_values = []
    for _ in range(200):
        records = []
        for share in rng.uniform(0.1, 0.9, 40):
            rewards = rng.poisson(rng.uniform(0, 6, 4))
            above = rng.binomial(rewards, share)
            records.append(reward_table(rewards, above))
        p_values.append(compare_ranges(records).p_value)
    shares = [np.mean(np.array(p_values) < level) for level in (0.5, 0.1)]
    assert shares == pytest.approx([0.5, 0.1], abs=0.1)


def test_a_few_rewards_prove_nothing():
    table = reward_table([1000, 1, 1], [990, 0, 0])
    assert compare_ranges([table]).p_value == 1
    assert compare_ranges([reward_table([0], [0])]).p_value == 1


def test_a_policy_that_prefers_low_rewards_has_learned_nothing():
    shares = [0.6] * 5 + [0.4] * 5
    records = run_of(shares, width=20.0, settled=0)
    assert judge_policy(records).learned
    records[-1] = record(3, count_shares(shares), mode=900)
    verdict = judge_policy(records)
    assert not verdict.learned
    assert 'it ended at t = 900 ± 20, although' in verdict.text


def test_rewards_in_one_range_are_not_compared():
    """The others have too few."""
    table = reward_table([2000] + [3] * 9, [1014] + [0] * 9)
    test = compare_ranges([table])
    assert test.p_value == 1
    assert np.isfinite(test.excess).sum() == 1


def test_ranges_of_one_timestep_are_named_once():
    entry = record(0, count_shares(PEAK), width=1e5)
    entry.update(timesteps=[*range(10)], probabilities=[0.1] * 10)
    verdict = judge_policy([dict(entry, entropy=math.log(10))])
    assert 'more frequent at t = 3 than at t = 9.' in verdict.text
