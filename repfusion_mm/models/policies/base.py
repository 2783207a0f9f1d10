"""The interface of a timestep policy, a distribution pi(t|x)."""

from __future__ import annotations

from typing import List, Optional, Tuple, Union

import torch
from mmengine.model import BaseModule
from torch.distributions import Categorical

from repfusion_mm.models.utils.autocast import without_autocast


class TimestepDistribution(Categorical):
    """A categorical distribution that samples without synchronizing."""

    def sample(
        self,
        sample_shape: Union[torch.Size, List[int], Tuple[int, ...]] = (),
    ) -> torch.Tensor:
        """Sample the actions that ``Categorical`` samples in a single draw.

        It calls ``torch.multinomial``, whose check of the input synchronizes.
        """
        probs = self.probs.expand(
            *self._extended_shape(torch.Size(sample_shape)), self._num_events
        )
        waits = torch.empty_like(
            probs, memory_format=torch.contiguous_format
        ).exponential_()
        return (probs / waits).argmax(-1)


class TimestepPolicy(BaseModule):
    """Predict a categorical distribution over timesteps for each image.

    ``policy(images)`` is a categorical distribution over actions k in
    [0, K - 1]. Action k selects the timestep ``policy.timesteps[k]``.

    Args:
        num_timesteps: T, the length of the teacher's noise schedule.
        low: Smallest timestep.
        high: Largest timestep, T - 1 by default.
        stride: Distance between neighboring timesteps.

    Raises:
        ValueError: The grid is empty or not within [0, T - 1].
    """

    #: Whether the policy is trained on rewards.
    learnable = False
    #: K timesteps, one for each action.
    timesteps: torch.Tensor

    def __init__(
        self,
        num_timesteps: int,
        low: int = 0,
        high: Optional[int] = None,
        stride: int = 1,
    ) -> None:
        super().__init__()
        high = num_timesteps - 1 if high is None else high
        for name, value in dict(low=low, high=high, stride=stride).items():
            if not isinstance(value, int):
                raise TypeError(
                    f'expected an integer as policy.{name}, got {value!r}; '
                    f'correct model.policy.{name}'
                )
        if not 0 <= low <= high < num_timesteps or stride < 1:
            raise ValueError(
                'expected timesteps within the schedule, 0 <= low <= high <= '
                f'{num_timesteps - 1} and stride >= 1, got low={low}, '
                f'high={high}, stride={stride}'
            )
        self.num_timesteps = num_timesteps
        grid = torch.arange(low, high + 1, stride)
        self.register_buffer('timesteps', grid, persistent=False)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Return N x K unnormalized log-probabilities; uniform by default.

        Args:
            images: N x 3 x H x W, RGB, float in [0, 1].
        """
        return images.new_zeros(len(images), len(self.timesteps))

    def forward(self, images: torch.Tensor) -> TimestepDistribution:
        """Return pi(t|x), computed in float32 also under autocast."""
        with without_autocast(images.device):
            logits = self.logits(images.float())
        return TimestepDistribution(logits=logits, validate_args=False)
