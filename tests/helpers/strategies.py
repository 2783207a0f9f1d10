"""Random inputs for property tests (hypothesis)."""

import torch
from hypothesis import settings
from hypothesis import strategies as st

settings.register_profile(
    'default', max_examples=40, deadline=None, derandomize=True
)
settings.load_profile('default')

seeds = st.integers(0, 2**31 - 1)
sides = st.integers(1, 6)


def random_maps(seed, num_images, channels, height, width):
    """Return a map of normal numbers, the same for each seed."""
    generator = torch.Generator().manual_seed(seed)
    shape = num_images, channels, height, width
    return torch.randn(shape, generator=generator)
