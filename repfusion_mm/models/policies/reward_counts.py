"""Count which rewards are above the mean of their batch, over timesteps."""

from __future__ import annotations

import torch
import torch.nn as nn
from mmengine.dist import all_reduce

#: Ranges of neighboring timesteps, if there are as many timesteps.
NUM_RANGES = 10


class RewardCounts(nn.Module):
    """Count rewards, and those above the mean of their batch, by timestep.

    Where rewards do not depend on t, the share of rewards above the mean is
    the same in all ranges of t, at any scale of the reward. The counts are
    integers, equal on all ranks, and in no ``state_dict``.

    Args:
        num_actions: K, the number of timesteps.
    """

    #: 2 x R integers: rewards in each range of t, and those above the mean.
    counts: torch.Tensor

    def __init__(self, num_actions: int) -> None:
        super().__init__()
        self.num_actions = num_actions
        counts = torch.zeros(2, min(NUM_RANGES, num_actions), dtype=torch.long)
        self.register_buffer('counts', counts, persistent=False)

    @torch.no_grad()
    def add(
        self, actions: torch.Tensor, above: torch.Tensor, mask: torch.Tensor
    ) -> None:
        """Add a batch, without synchronizing with the device.

        Args:
            actions: N integers in [0, K - 1].
            above: N booleans, true for rewards above the mean of the batch on
                all ranks.
            mask: N booleans, true for images that have a reward.
        """
        num_ranges = self.counts.shape[1]
        ranges = torch.arange(num_ranges, device=actions.device)
        found = (actions * num_ranges // self.num_actions)[:, None] == ranges
        counted = torch.stack([mask, mask & above])
        counts = (counted[:, :, None] & found).sum(1)
        all_reduce(counts)
        self.counts += counts
