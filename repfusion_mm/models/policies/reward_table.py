"""Statistics to test whether rewards depend on the timestep."""

from __future__ import annotations

from typing import Any, Dict

import torch
import torch.nn as nn
from mmengine.dist import all_reduce

#: Ranges of neighboring timesteps, if there are as many timesteps.
NUM_RANGES = 10


def range_of(actions: Any, num_ranges: int, num_actions: int) -> Any:
    """Return the index of the range of each action, for arrays or tensors."""
    return actions * num_ranges // num_actions


class RewardTable(nn.Module):
    """Count rewards above the mean of their batch, in ranges of timesteps.

    If rewards do not depend on t, the number of them in a range has, in each
    batch, a hypergeometric distribution. The table sums over batches how much
    the numbers exceed its mean, and its covariance, for the generalized
    Cochran-Mantel-Haenszel test (N. Mantel, J. Am. Stat. Assoc. 58 (1963),
    690-700). It is equal on all ranks, and in no ``state_dict``.

    Args:
        num_actions: K, the number of timesteps.
    """

    #: (R + 2) x R: the number of rewards in each of R ranges, the excess of
    #: those above the mean, and its R x R covariance.
    values: torch.Tensor

    def __init__(self, num_actions: int) -> None:
        super().__init__()
        self.num_actions = num_actions
        num_ranges = min(NUM_RANGES, num_actions)
        values = torch.zeros(num_ranges + 2, num_ranges)
        self.register_buffer('values', values, persistent=False)

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
        num_ranges = self.values.shape[1]
        ranges = torch.arange(num_ranges, device=actions.device)
        found = range_of(actions, num_ranges, self.num_actions)[:, None]
        found = found == ranges
        counted = torch.stack([mask, mask & above])
        counts = (counted[:, :, None] & found).sum(1)
        all_reduce(counts)
        rewards, high = counts.float()
        total = rewards.sum().clamp(min=1)
        share = high.sum() / total
        variance = share * (1 - share) * total / (total - 1).clamp(min=1)
        covariance = rewards.diag() - rewards[:, None] * rewards / total
        self.values[0] += rewards
        self.values[1] += high - share * rewards
        self.values[2:] += variance * covariance

    def pop(self) -> Dict[str, list]:
        """Return the table under the names in ``policy.jsonl``, and clear it.

        This synchronizes with the device.
        """
        rows = [
            [float(f'{value:.6g}') for value in row]
            for row in self.values.tolist()
        ]
        self.values.zero_()
        return dict(
            num_rewards=[int(value) for value in rows[0]],
            excess_rewards=rows[1],
            excess_covariance=rows[2:],
        )
