"""The learned policy pi(t|x) of RepFusion."""

from __future__ import annotations

import math
from typing import Dict, Optional, Sequence

import torch
import torch.nn as nn
from torch.distributions import Categorical

from repfusion_mm.models.policies.base import TimestepPolicy
from repfusion_mm.models.policies.reinforce import (
    Baseline,
    mean_over_ranks,
    moments_over_ranks,
)
from repfusion_mm.registry import MODELS
from repfusion_mm.utils.arguments import (
    check_choice,
    check_flags,
    check_integer,
    check_number,
    check_widths,
)

LOGITS = ('smooth', 'free')


@MODELS.register_module()
class LearnedTimestepPolicy(TimestepPolicy):
    """Select a timestep for each image, trained with REINFORCE.

    The loss (RepFusion, arXiv 2308.10916, Sec. 3.3) is

        -(r - b) / s log pi(t|x) - lambda_H H(pi(.|x)),

    where s is the root mean square of r - b, so that the effect of lambda_H
    does not depend on the scale of the task's loss. It is computed over the
    batch for the batch baseline, where it is the standard deviation, and over
    past batches for the others. The policy is uniform at the start of
    training.

    Args:
        num_timesteps, low, high, stride: See :class:`TimestepPolicy`.
        logits: ``'smooth'``: the network predicts coefficients of cosines of
            t, so that neighboring timesteps get similar probabilities.
            ``'free'``: one logit per timestep, as in the paper's code.
        num_cosines: Number of cosines for ``'smooth'``.
        channels: Output channels of the trunk's stride-2 convolutions.
        baseline: ``'none'``, ``'batch'`` or ``'ema'``, see
            :class:`~repfusion_mm.models.policies.reinforce.Baseline`.
        scale_advantage: Whether to divide by s, unlike in the paper.
        entropy_weight: lambda_H at the start of training;
            ``TimestepPolicyHook`` decays it.

    Raises:
        ValueError: An argument is not one of its choices or outside its
            range.
    """

    learnable = True

    def __init__(
        self,
        num_timesteps: int,
        low: int = 0,
        high: Optional[int] = None,
        stride: int = 1,
        logits: str = 'smooth',
        num_cosines: int = 16,
        channels: Sequence[int] = (32, 64, 128),
        baseline: str = 'batch',
        scale_advantage: bool = True,
        entropy_weight: float = 0.1,
    ) -> None:
        super().__init__(num_timesteps, low, high, stride)
        check_choice('model.policy.logits', logits, LOGITS)
        check_integer('model.policy.num_cosines', num_cosines)
        check_widths('model.policy.channels', channels, empty=False)
        check_flags('model.policy', scale_advantage=scale_advantage)
        check_number('model.policy.entropy_weight', entropy_weight)
        self.entropy_weight = entropy_weight
        self.scale_advantage = scale_advantage
        self.baseline = Baseline(baseline)
        layers: list = []
        for in_channels, out_channels in zip((3, *channels), channels):
            layers += [
                nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1),
                nn.ReLU(inplace=True),
            ]
        self.trunk = nn.Sequential(
            *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        num_actions = len(self.timesteps)
        smooth = logits == 'smooth'
        basis = cosine_basis(num_cosines, num_actions) if smooth else None
        self.register_buffer('basis', basis, persistent=False)
        width = num_cosines if smooth else num_actions
        self.head = nn.Linear(channels[-1], width)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Return N x K unnormalized log-probabilities; see the base class."""
        out = self.head(self.trunk(images * 2 - 1))
        return out if self.basis is None else out @ self.basis

    def loss(
        self,
        pi: Categorical,
        actions: torch.Tensor,
        reward: torch.Tensor,
        mask: torch.Tensor,
    ) -> Dict[str, torch.Tensor]:
        """Compute the REINFORCE loss and its statistics.

        Args:
            pi: pi(t|x) of N images.
            actions: N actions, sampled from it.
            reward: N rewards, without gradient.
            mask: N booleans, true for images that have a reward. The others
                contribute no gradient.

        Returns:
            ``loss_policy`` and the scalars to log: ``policy_entropy`` in nats,
            ``advantage_mean`` and ``advantage_std`` (over all ranks).
        """
        advantage = self.baseline.advantage(reward.float(), mask)
        mean, std, count = moments_over_ranks(advantage, mask)
        entropy = pi.entropy()
        scaled = advantage
        if self.scale_advantage:
            scaled = self.baseline.scale(advantage, mean, std, count)
        objective = scaled * pi.log_prob(actions)
        objective = objective + self.entropy_weight * entropy
        return dict(
            loss_policy=-mean_over_ranks(objective, mask, count),
            policy_entropy=entropy.detach().mean(),
            advantage_mean=mean,
            advantage_std=std,
        )


def cosine_basis(num_cosines: int, num_actions: int) -> torch.Tensor:
    """Return cos(pi k (j + 1/2) / K), k = 1..num_cosines, j = 0..K - 1.

    These num_cosines x K values are the rows of a discrete cosine transform
    (DCT-II) without the constant one, which does not change a softmax.
    """
    k = torch.arange(1, num_cosines + 1)[:, None]
    j = torch.arange(num_actions)[None, :] + 0.5
    return torch.cos(math.pi / num_actions * k * j)
