import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from repfusion_mm.models import (
    LearnedTimestepPolicy,
    UniformTimestepPolicy,
)
from tests.helpers.strategies import seeds


@pytest.mark.parametrize(
    'arguments',
    [
        dict(low=-1),
        dict(high=1000),
        dict(low=5, high=4),
        dict(stride=0),
    ],
)
def test_timesteps_outside_the_schedule_are_refused(arguments):
    with pytest.raises(ValueError, match='within the schedule'):
        UniformTimestepPolicy(1000, **arguments)


@given(seeds, st.integers(2, 60), st.integers(1, 7), st.floats(0, 20))
def test_policies_are_distributions(seed, num_timesteps, stride, scale):
    torch.manual_seed(seed)
    low = seed % num_timesteps
    policies = [
        LearnedTimestepPolicy(num_timesteps, low, stride=stride),
        UniformTimestepPolicy(num_timesteps, low, stride=stride),
    ]
    torch.nn.init.normal_(policies[0].head.weight, std=scale)
    for policy in policies:
        pi = policy(torch.rand(3, 3, 8, 8))
        actions = pi.sample()
        assert low <= policy.timesteps[actions].min()
        assert policy.timesteps[actions].max() < num_timesteps
        assert (pi.log_prob(actions) <= 1e-6).all()
        torch.testing.assert_close(pi.probs.sum(-1), torch.ones(3))
        limit = math.log(len(policy.timesteps)) + 1e-4
        assert ((pi.entropy() >= -1e-5) & (pi.entropy() <= limit)).all()
