"""Seed the random number generators of this process for a block of code."""

from __future__ import annotations

import contextlib
import random
from typing import Iterator

import numpy as np
import torch


def seed_generators(*words: int) -> None:
    """Seed random, numpy and torch (CPU).

    ``words`` are non-negative integers that are hashed into the seeds.
    """
    seeds = np.random.SeedSequence(words).generate_state(3).tolist()
    random.seed(seeds[0])
    np.random.seed(seeds[1])
    # torch.manual_seed would also seed the GPUs, which must keep their states
    # and must not be initialized in a forked process.
    torch.default_generator.manual_seed(seeds[2])


@contextlib.contextmanager
def seeded(*words: int) -> Iterator[None]:
    """Call :func:`seed_generators`, and restore the states afterwards."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed_generators(*words)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def generator_states() -> tuple:
    """Return the states of the generators, which can be compared."""
    numpy_state = np.random.get_state(legacy=False)['state']
    torch_state = torch.get_rng_state().numpy().tobytes()
    return (
        random.getstate(),
        numpy_state['key'].tobytes(),
        numpy_state['pos'],
        torch_state,
    )
