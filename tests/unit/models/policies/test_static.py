import math

import pytest
import torch

from repfusion_mm.models import (
    FixedTimestepPolicy,
    UniformTimestepPolicy,
)

IMAGES = torch.rand(5, 3, 8, 8)


def draw(policy, images=IMAGES):
    return policy.timesteps[policy(images).sample()]


def test_fixed_policy_samples_its_timestep():
    policy = FixedTimestepPolicy(1000, timestep=37)
    assert draw(policy).tolist() == [37] * 5
    assert policy(IMAGES).entropy().tolist() == [0.0] * 5


def test_uniform_policy_samples_its_range_evenly():
    policy = UniformTimestepPolicy(1000, low=100, high=199, stride=10)
    pi = policy(torch.rand(4000, 3, 1, 1))
    drawn = policy.timesteps[pi.sample()]
    values, counts = drawn.unique(return_counts=True)
    assert values.tolist() == list(range(100, 200, 10))
    assert counts.min() > 320
    assert pi.entropy()[0] == pytest.approx(math.log(10))


def test_a_timestep_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match=r'timestep.*probe_timesteps\.py'):
        FixedTimestepPolicy(1000, timestep=None)
