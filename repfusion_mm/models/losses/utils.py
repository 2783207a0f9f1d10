"""Statistics of feature maps."""

from __future__ import annotations

import torch
from mmengine.dist import all_reduce


def pool(feat: torch.Tensor) -> torch.Tensor:
    """Average N x C x H x W over the grid, to N x C."""
    return feat.mean(dim=(2, 3))


def relative_std(feat: torch.Tensor) -> torch.Tensor:
    """Return how much N x C x H x W features differ between images.

    This is the standard deviation of the pooled features over the N images,
    divided by their root mean square: zero if all images have equal features.
    """
    pooled = pool(feat.float())
    variance = pooled.var(0, unbiased=False).mean()
    return (variance / pooled.pow(2).mean().clamp(min=1e-12)).sqrt()


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
