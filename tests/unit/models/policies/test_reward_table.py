import torch
from scipy.stats import multivariate_hypergeom

from repfusion_mm.models.policies.reward_table import RewardTable
from tests.helpers.ranks import run_on_ranks

ACTIONS = torch.tensor([0, 2, 3, 19, 19, 10])
ABOVE = torch.tensor([True, False, True, True, True, False])
MASK = torch.tensor([True, True, True, True, False, True])


def test_rewards_are_compared_with_those_expected_in_their_batch():
    table = RewardTable(20)
    assert not table.state_dict()
    for _ in range(2):
        table.add(ACTIONS, ABOVE, MASK)
    entry = table.pop()
    rewards = torch.tensor([1.0, 2, 0, 0, 0, 1, 0, 0, 0, 1])
    assert entry['num_rewards'] == (2 * rewards).tolist()
    excess = torch.tensor([1.0, 1, 0, 0, 0, 0, 0, 0, 0, 1]) - 0.6 * rewards
    actual = torch.tensor(entry['excess_rewards'])
    torch.testing.assert_close(actual, 2 * excess)
    expected = multivariate_hypergeom.cov(rewards.int().numpy(), 3)
    actual = torch.tensor(entry['excess_covariance'], dtype=torch.double)
    torch.testing.assert_close(
        actual, 2 * torch.tensor(expected), rtol=1e-5, atol=1e-6
    )
    assert not table.values.any()


def test_few_timesteps_have_a_range_each():
    table = RewardTable(3)
    table.add(torch.tensor([0, 1, 2, 2]), ABOVE[:4], MASK[:4])
    assert table.pop()['num_rewards'] == [1, 1, 2]


def test_batches_without_a_difference_change_only_the_count():
    table = RewardTable(3)
    table.add(torch.tensor([0, 1, 2]), torch.zeros(3).bool(), MASK[:3])
    table.add(torch.tensor([0]), MASK[:1], MASK[:1])
    table.add(torch.tensor([0]), MASK[:1], ~MASK[:1])
    assert table.values[0].tolist() == [2, 1, 1]
    assert not table.values[2:].any()


def test_all_ranks_have_the_table_of_all_ranks():
    def count(rank):
        table = RewardTable(20)
        part = slice(0, 2) if rank == 0 else slice(2, None)
        table.add(ACTIONS[part], ABOVE[part], MASK[part])
        return table.pop()

    expected = RewardTable(20)
    expected.add(ACTIONS, ABOVE, MASK)
    assert run_on_ranks(count) == [expected.pop()] * 2


def test_adding_does_not_synchronize():
    table = RewardTable(20).to('meta')
    table.add(*(value.to('meta') for value in (ACTIONS, ABOVE, MASK)))
    assert table.values.is_meta
