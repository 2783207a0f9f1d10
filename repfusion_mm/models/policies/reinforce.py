"""REINFORCE (Williams, 1992) on per-image rewards, with a baseline."""

from __future__ import annotations

import torch
import torch.nn as nn
from mmengine.dist import all_reduce

BASELINES = ('none', 'batch', 'ema')


def mean_over_ranks(
    values: torch.Tensor, mask: torch.Tensor, empty: float = 0.0
) -> torch.Tensor:
    """Average ``values`` where ``mask`` is true, with equal weight per image.

    DDP averages gradients over ranks. Each rank's sum is therefore divided by
    the count over all ranks, so that images have the same weight on ranks with
    few and with many labels.

    Args:
        values: N values.
        mask: N booleans.
        empty: The result if the mask is false on all ranks. Zero keeps the
            result connected to the graph.

    Returns:
        A scalar whose average over ranks is the mean over all images.
    """
    total = torch.stack([mask.sum(), torch.ones_like(mask.sum())]).to(values)
    all_reduce(total)
    count, world_size = total
    weights = mask.to(values) * (world_size / count.clamp(min=1))
    mean = (values * weights).sum()
    return mean if empty == 0 else mean.masked_fill(count == 0, empty)


def scale_over_ranks(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Divide ``values``, zero where ``mask`` is false, by the standard
    deviation of the others over all ranks."""
    sums = [values.sum(), values.pow(2).sum(), mask.sum().to(values)]
    total = torch.stack(sums)
    all_reduce(total)
    mean, square = total[:2] / total[2].clamp(min=1)
    variance = (square - mean.pow(2)).clamp(min=0)
    return values / variance.sqrt().clamp(min=1e-6)


class Baseline(nn.Module):
    """Compute the advantage r - b with a baseline b.

    Args:
        kind: ``'none'``: b is zero. ``'batch'``: for each image, b is the mean
            reward of the other images in the batch on all ranks
            (leave-one-out, Kool et al., 2019); the advantage of a single image
            is zero. ``'ema'``: b is a running mean over past batches, which
            starts at the mean of the first batch.
        momentum: Weight of the newest batch for ``'ema'``, in (0, 1].

    Raises:
        ValueError: ``kind`` is not one of these.
    """

    running_mean: torch.Tensor
    started: torch.Tensor

    def __init__(self, kind: str = 'batch', momentum: float = 0.1) -> None:
        super().__init__()
        if kind not in BASELINES:
            raise ValueError(
                f'expected policy.baseline to be one of {BASELINES}, '
                f'got {kind!r}'
            )
        self.kind = kind
        self.momentum = momentum
        if kind == 'ema':
            self.register_buffer('running_mean', torch.tensor(0.0))
            self.register_buffer('started', torch.tensor(False))

    @torch.no_grad()
    def advantage(
        self, reward: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Return r - b of N rewards, zero where ``mask`` is false."""
        reward = torch.where(mask, reward, torch.zeros_like(reward))
        if self.kind == 'none':
            return reward
        total = torch.stack([reward.sum(), mask.sum().to(reward)])
        all_reduce(total)
        reward_sum, count = total
        if self.kind == 'batch':
            others = (count - 1).clamp(min=1)
            baseline = (reward_sum - reward) / others
            # A single reward has no others to compare with.
            mask = mask & (count > 1)
        else:
            baseline = self._update(reward_sum / count.clamp(min=1), count > 0)
        return (reward - baseline) * mask

    def _update(
        self, batch_mean: torch.Tensor, any_reward: torch.Tensor
    ) -> torch.Tensor:
        mean = torch.where(self.started, self.running_mean, batch_mean)
        newest = torch.lerp(mean, batch_mean, self.momentum)
        self.running_mean.copy_(torch.where(any_reward, newest, mean))
        self.started.logical_or_(any_reward)
        return mean
