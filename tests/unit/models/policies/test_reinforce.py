import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from repfusion_mm.models.policies.reinforce import (
    Baseline,
    integer_moments,
    mean_over_ranks,
    moments_over_ranks,
)
from tests.helpers.ranks import run_on_ranks

ALL = torch.ones(5, dtype=torch.bool)


def test_batch_baseline_is_the_mean_of_the_others():
    reward = torch.tensor([1.0, 2.0, 4.0, 9.0, float('nan')])
    mask = torch.tensor([True, True, True, True, False])
    advantage = Baseline('batch').advantage(reward, mask)
    expected = [1 - 15 / 3, 2 - 14 / 3, 4 - 12 / 3, 9 - 7 / 3, 0]
    torch.testing.assert_close(advantage, torch.tensor(expected))


def test_advantage_of_a_single_reward_is_zero_with_the_batch_baseline():
    mask = torch.tensor([False, True])
    advantage = Baseline('batch').advantage(torch.tensor([5.0, -3.0]), mask)
    assert advantage.tolist() == [0.0, 0.0]


def test_advantage_without_a_baseline_is_the_reward():
    reward = torch.tensor([1.0, -2.0])
    mask = torch.tensor([True, True])
    assert torch.equal(Baseline('none').advantage(reward, mask), reward)


def test_ema_baseline_averages_past_batches_and_is_saved():
    baseline = Baseline('ema', momentum=0.5)
    mask = torch.tensor([True, True])
    none = torch.tensor([False, False])
    first = baseline.advantage(torch.tensor([1.0, 3.0]), mask)
    assert first.tolist() == [-1.0, 1.0]
    baseline.advantage(torch.tensor([7.0, 7.0]), none)
    baseline.advantage(torch.tensor([4.0, 4.0]), mask)
    resumed = Baseline('ema', momentum=0.5)
    resumed.load_state_dict(baseline.state_dict())
    third = resumed.advantage(torch.tensor([3.0, 3.0]), mask)
    assert third.tolist() == [0.0, 0.0]


def test_advantage_of_equal_rewards_is_zero():
    rewards = torch.full((5,), -2.0)
    assert scaled(Baseline('batch'), rewards, ALL).tolist() == [0.0] * 5
    assert scaled(Baseline('batch'), rewards, ~ALL).tolist() == [0.0] * 5


def test_mean_over_ranks_is_zero_with_a_graph_without_labels():
    values = torch.randn(5, requires_grad=True)
    mean_over_ranks(values, ~ALL).backward()
    assert values.grad.tolist() == [0.0] * 5


def scaled(baseline, reward, mask):
    advantage = baseline.advantage(reward, mask)
    return baseline.scale(advantage, *moments_over_ranks(advantage, mask))


@given(st.integers(1, 300), st.floats(-1e4, 1e4, width=32))
def test_equal_rewards_have_no_advantage(num_rewards, reward):
    """Rounding errors of their mean would be scaled to one."""
    rewards = torch.full((num_rewards,), reward)
    mask = torch.ones(num_rewards, dtype=torch.bool)
    for kind in ('batch', 'ema'):
        baseline = Baseline(kind)
        for _ in range(3):
            assert scaled(baseline, rewards, mask).abs().max() == 0, kind


@given(
    st.integers(0, 2**31 - 1),
    st.lists(st.booleans(), min_size=1, max_size=9),
    st.sampled_from([1e-8, 1e-3, 1.0, 1e3]),
    st.sampled_from(['batch', 'ema', 'none']),
)
def test_scaled_advantages_are_bounded(seed, labeled, spread, kind):
    """Also with one label or none, and with equal rewards."""
    generator = torch.Generator().manual_seed(seed)
    mask, baseline = torch.tensor(labeled), Baseline(kind)
    for _ in range(4):
        noise = torch.randn(len(mask), generator=generator)
        values = scaled(baseline, -2.3 + spread * noise, mask)
        assert values.isfinite().all()
        # A new batch has a tenth of the weight in the mean of squares.
        assert values.abs().max() <= (10 * len(mask)) ** 0.5 + 1e-3
        assert (values[~mask] == 0).all()


def test_the_scale_of_the_batch_baseline_is_the_standard_deviation():
    reward = torch.tensor([1.0, 2.0, 4.0, 9.0, 0.0])
    mask = torch.tensor([True, True, True, True, False])
    advantage = Baseline('batch').advantage(reward, mask)
    expected = advantage / advantage[:4].std(unbiased=False)
    torch.testing.assert_close(scaled(Baseline('batch'), reward, mask),
                               expected)  # fmt: skip


def test_only_labels_keep_their_size_without_the_batch_baseline():
    """Over one batch, an only advantage would always become 1 or -1."""
    baseline, mask = Baseline('none'), torch.tensor([True, False])
    first, second = (
        scaled(baseline, torch.tensor([reward, 0.0]), mask)[0]
        for reward in (-1.0, -3.0)
    )
    assert first == -1
    assert second.item() == pytest.approx(-3 / (0.9 + 0.1 * 9) ** 0.5)


def test_deviations_of_distant_values_do_not_cancel():
    values = -2000.0 + 1e-2 * torch.randn(64)
    mask = torch.ones(64, dtype=torch.bool)
    _, std, _ = moments_over_ranks(values, mask)
    expected = values.double().std(unbiased=False).item()
    assert std.item() == pytest.approx(expected, rel=1e-2)


def test_ranks_compute_the_statistics_of_all_images():
    reward = -2.0 + torch.randn(8)
    mask = torch.tensor([True, False, False, False] + 3 * [True] + [False])
    timesteps = torch.randint(0, 1000, (8,))

    def compute(images):
        values = [
            scaled(Baseline(kind), reward[images], mask[images])
            for kind in ('batch', 'ema', 'none')
        ]
        mean, std = integer_moments(timesteps[images])
        moments = moments_over_ranks(reward[images] * mask[images],
                                     mask[images])  # fmt: skip
        return [v.tolist() for v in values], float(mean), float(std), [
            float(i) for i in moments
        ]  # fmt: skip

    one = compute(slice(0, 8))
    two = run_on_ranks(lambda rank: compute(slice(4 * rank, 4 * rank + 4)))
    torch.testing.assert_close(one[1], float(timesteps.double().mean()))
    for rank in two:
        torch.testing.assert_close(rank[1:], one[1:])
    for ours, *theirs in zip(one[0], *(rank[0] for rank in two)):
        torch.testing.assert_close(ours, theirs[0] + theirs[1])
