"""Policies that are not trained."""

from __future__ import annotations

from repfusion_mm.models.policies.base import TimestepPolicy
from repfusion_mm.registry import MODELS


@MODELS.register_module()
class UniformTimestepPolicy(TimestepPolicy):
    """Sample the timesteps of a range with equal probability.

    See :class:`TimestepPolicy` for the arguments.
    """


@MODELS.register_module()
class FixedTimestepPolicy(TimestepPolicy):
    """Use one timestep for all images.

    Args:
        num_timesteps: T, the length of the teacher's noise schedule.
        timestep: The timestep, in [0, T - 1].

    Raises:
        ValueError: ``timestep`` is outside the schedule.
    """

    def __init__(self, num_timesteps: int, timestep: int = 0) -> None:
        super().__init__(num_timesteps, low=timestep, high=timestep)
