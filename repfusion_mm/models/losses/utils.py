"""Statistics of feature maps."""

from __future__ import annotations

import torch
from mmengine.dist import all_reduce


def pool(feat: torch.Tensor) -> torch.Tensor:
    """Average N x C x H x W over the grid, to N x C."""
    return feat.mean(dim=(2, 3))


def relative_std(feat: torch.Tensor) -> torch.Tensor:
    """Return how much pooled features differ between images.

    This is the standard deviation of the pooled N x C x H x W map over the N
    images, divided by the root mean square: zero if the features of all
    images are equal.
    """
    pooled = pool(feat.float())
    deviation = (pooled - pooled.mean(0)).pow(2).mean()
    return (deviation / pooled.pow(2).mean().clamp(min=1e-12)).sqrt()


def standardize(feat: torch.Tensor) -> torch.Tensor:
    """Scale each channel of N x C (x H x W) to mean zero and variance one.

    Mean and variance are taken over the batches of all ranks, which have
    equal sizes. A constant channel (every channel, in a batch of one) becomes
    zero.
    """
    dims = [dim for dim in range(feat.dim()) if dim != 1]
    mean = feat.mean(dims, keepdim=True)
    all_reduce(mean, 'mean')
    centered = feat - mean
    variance = centered.pow(2).mean(dims, keepdim=True)
    all_reduce(variance, 'mean')
    return centered / variance.clamp(min=1e-12).sqrt()
