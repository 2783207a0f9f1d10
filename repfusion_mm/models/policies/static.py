"""Policies that are not trained."""

from __future__ import annotations

from typing import Optional

from repfusion_mm.models.policies.base import TimestepPolicy
from repfusion_mm.registry import MODELS
from repfusion_mm.utils.arguments import check_integer


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
        timestep: The timestep, in [0, T - 1]; None if it is not known yet,
            which is an error.

    Raises:
        ValueError: ``timestep`` is outside the schedule, or None.
    """

    def __init__(
        self, num_timesteps: int, timestep: Optional[int] = 0
    ) -> None:
        if timestep is None:
            raise ValueError(
                'expected a timestep for FixedTimestepPolicy, got None; set '
                'the one that tools/analysis_tools/probe_timesteps.py prints '
                'for this config (timestep in repfusion_custom.py, where it '
                "may be 'learned' or 'uniform' too)"
            )
        check_integer('model.policy.timestep', timestep, 0)
        super().__init__(num_timesteps, low=timestep, high=timestep)
