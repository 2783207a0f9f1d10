"""REINFORCE (Williams, 1992) on per-image rewards, with a baseline."""

from __future__ import annotations

from typing import Optional, Tuple

import torch
import torch.nn as nn
from mmengine.dist import all_reduce, get_world_size

from repfusion_mm.utils.arguments import check_choice, check_number

BASELINES = ('none', 'batch', 'ema')
#: Differences between rewards below this share of them are rounding errors.
ROUNDING = 1e-6
#: Advantages with a smaller root mean square are not scaled.
TINY = 1e-12


def sum_over_ranks(
    values: torch.Tensor, mask: torch.Tensor
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Return the sum of values over all ranks, and their count.

    Args:
        values: N values, zero where ``mask`` is false.
        mask: N booleans.

    Returns:
        Two scalars, equal on all ranks and without gradient.
    """
    values = values.detach()
    total = torch.stack([values.sum(), mask.sum().to(values)])
    all_reduce(total)
    return total[0], total[1]


def mean_over_ranks(
    values: torch.Tensor,
    mask: torch.Tensor,
    count: Optional[torch.Tensor] = None,
) -> torch.Tensor:
    """Average ``values`` where ``mask`` is true, with equal weight per image.

    DDP averages gradients over ranks. Each rank's sum is therefore divided by
    the count over all ranks, so that images have the same weight on ranks with
    few and with many labels.

    Args:
        values: N values.
        mask: N booleans.
        count: Over all ranks, from :func:`sum_over_ranks`, if it is known.

    Returns:
        A scalar whose average over ranks is the mean over all images; zero,
        and connected to the graph, if the mask is false on all ranks.
    """
    if count is None:
        _, count = sum_over_ranks(values, mask)
    weights = mask.to(values) * (get_world_size() / count.clamp(min=1))
    return (values * weights).sum()


def moments_over_ranks(
    values: torch.Tensor, mask: torch.Tensor
) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return mean, standard deviation and count of values over all ranks.

    The variance is computed in a second pass, because the difference of mean
    square and squared mean cancels.

    Args:
        values: N values, zero where ``mask`` is false.
        mask: N booleans.

    Returns:
        Three scalars, equal on all ranks; zero if no mask is true.
    """
    total, count = sum_over_ranks(values, mask)
    mean = total / count.clamp(min=1)
    squares = ((values - mean) * mask).square().sum()
    all_reduce(squares)
    return mean, (squares / count.clamp(min=1)).sqrt(), count


def integer_moments(
    values: torch.Tensor,
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Return mean and standard deviation of N integers over all ranks.

    The sums of integers are exact, so that one pass is enough.
    """
    count = torch.full_like(values[0], len(values))
    total = torch.stack([values.sum(), values.square().sum(), count])
    all_reduce(total)
    first, second, count = total
    variance = (count * second - first.square()).float() / count.square()
    return first / count, variance.sqrt()


def divide(values: torch.Tensor, rms: torch.Tensor) -> torch.Tensor:
    """Divide ``values`` by ``rms``, unless it is smaller than ``TINY``."""
    return values / rms.masked_fill(rms < TINY, 1)


class Baseline(nn.Module):
    """Compute the advantage r - b with a baseline b, and scale it.

    Args:
        kind: ``'none'``: b is zero. ``'batch'``: for each image, b is the mean
            reward of the other images in the batch on all ranks
            (leave-one-out, Kool et al., 2019); the advantage of a single image
            is zero. ``'ema'``: b is a running mean over past batches, which
            starts at the mean of the first batch.
        momentum: Weight of the newest batch in running means, in (0, 1].

    Raises:
        ValueError: ``kind`` is not one of these, or ``momentum`` is outside
            its range.
    """

    running_mean: torch.Tensor
    running_square: torch.Tensor
    started: torch.Tensor
    square_started: torch.Tensor

    def __init__(self, kind: str = 'batch', momentum: float = 0.1) -> None:
        super().__init__()
        check_choice('model.policy.baseline', kind, BASELINES)
        check_number('momentum', momentum, high=1, positive=True)
        self.kind = kind
        self.momentum = momentum
        if kind == 'ema':
            self.register_buffer('running_mean', torch.tensor(0.0))
            self.register_buffer('started', torch.tensor(False))
        if kind != 'batch':
            self.register_buffer('running_square', torch.tensor(0.0))
            self.register_buffer('square_started', torch.tensor(False))

    @torch.no_grad()
    def advantage(
        self, reward: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Return r - b of N rewards, zero where ``mask`` is false.

        Differences within the rounding error of the rewards are zero, so that
        scaling does not enlarge them.
        """
        reward = torch.where(mask, reward, torch.zeros_like(reward))
        if self.kind == 'none':
            return reward
        total, count = sum_over_ranks(reward, mask)
        mean = total / count.clamp(min=1)
        # The second pass removes the rounding error of the first.
        total, _ = sum_over_ranks((reward - mean) * mask, mask)
        mean = mean + total / count.clamp(min=1)
        if self.kind == 'batch':
            # r - (sum - r) / (n - 1), without the cancellation of the sums.
            # A single reward has no others to compare with: r - mean is zero.
            advantage = (reward - mean) * (count / (count - 1).clamp(min=1))
        else:
            advantage = reward - self._average(
                self.running_mean, self.started, mean, count > 0
            )
        rounding = advantage.abs() <= ROUNDING * reward.abs()
        return advantage.masked_fill(rounding | ~mask, 0)

    @torch.no_grad()
    def scale(
        self,
        advantage: torch.Tensor,
        mean: torch.Tensor,
        std: torch.Tensor,
        count: torch.Tensor,
    ) -> torch.Tensor:
        """Divide N advantages by their root mean square.

        For ``'batch'``, whose advantages have mean zero, it is that of the
        batch, which equals the standard deviation. For the others it is the
        root of a running mean of squares, which includes the batch: over one
        batch, the only advantage would always become 1 or -1. An outlier
        therefore reduces the advantages of the next batches too.

        Args:
            advantage: N values of :meth:`advantage`.
            mean, std, count: Of all ranks, by :func:`moments_over_ranks`.
        """
        if self.kind == 'batch':
            return divide(advantage, torch.hypot(mean, std))
        square = mean.square() + std.square()
        self._average(
            self.running_square, self.square_started, square, count > 0
        )
        return divide(advantage, self.running_square.sqrt())

    def _average(
        self,
        running: torch.Tensor,
        started: torch.Tensor,
        newest: torch.Tensor,
        valid: torch.Tensor,
    ) -> torch.Tensor:
        """Update a running mean, and return the one without ``newest``."""
        mean = torch.where(started, running, newest)
        updated = torch.lerp(mean, newest, self.momentum)
        running.copy_(torch.where(valid, updated, mean))
        started.logical_or_(valid)
        return mean
