import torch

from repfusion_mm.models.policies.reinforce import (
    Baseline,
    mean_over_ranks,
    scale_over_ranks,
)

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
    advantage = Baseline('batch').advantage(torch.full((5,), -2.0), ALL)
    assert scale_over_ranks(advantage, ALL).tolist() == [0.0] * 5
    none = torch.zeros(5, dtype=torch.bool)
    assert scale_over_ranks(advantage, none).tolist() == [0.0] * 5


def test_mean_over_ranks_is_zero_with_a_graph_without_labels():
    values = torch.randn(5, requires_grad=True)
    mean_over_ranks(values, ~ALL).backward()
    assert values.grad.tolist() == [0.0] * 5
