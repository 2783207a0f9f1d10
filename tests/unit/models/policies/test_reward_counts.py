import torch

from repfusion_mm.models.policies.reward_counts import RewardCounts
from tests.helpers.ranks import run_on_ranks

ACTIONS = torch.tensor([0, 2, 3, 19, 19, 10])
ABOVE = torch.tensor([True, False, True, True, True, False])
MASK = torch.tensor([True, True, True, True, False, True])


def test_rewards_are_counted_in_ranges_of_timesteps():
    counter = RewardCounts(20)
    for _ in range(2):
        counter.add(ACTIONS, ABOVE, MASK)
    assert counter.counts.tolist() == [
        [2, 4, 0, 0, 0, 2, 0, 0, 0, 2],
        [2, 2, 0, 0, 0, 0, 0, 0, 0, 2],
    ]
    assert not counter.state_dict()


def test_few_timesteps_have_a_range_each():
    counter = RewardCounts(3)
    counter.add(torch.tensor([0, 1, 2, 2]), ABOVE[:4], MASK[:4])
    assert counter.counts.tolist() == [[1, 1, 2], [1, 0, 2]]


def test_all_ranks_count_the_rewards_of_all_ranks():
    def count(rank):
        counter = RewardCounts(20)
        part = slice(0, 2) if rank == 0 else slice(2, None)
        counter.add(ACTIONS[part], ABOVE[part], MASK[part])
        return counter.counts.tolist()

    expected = RewardCounts(20)
    expected.add(ACTIONS, ABOVE, MASK)
    assert run_on_ranks(count) == [expected.counts.tolist()] * 2


def test_counting_does_not_synchronize():
    counter = RewardCounts(20).to('meta')
    counter.add(*(value.to('meta') for value in (ACTIONS, ABOVE, MASK)))
    assert counter.counts.is_meta
