"""Statistics of feature maps."""

from __future__ import annotations

import torch


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


def channel_variance(feat: torch.Tensor) -> torch.Tensor:
    """Return the variance of N x C x H x W features, averaged over channels.

    Of all positions of all images. The estimate is unbiased: the N images are
    independent, but not the positions of an image. Of one image, it is that
    within the image.
    """
    within = feat.var((2, 3), unbiased=False).mean()
    # Of one image, torch would warn of NaN.
    return within + pool(feat).var(0, unbiased=len(feat) > 1).mean()


def unit_range(feat: torch.Tensor) -> torch.Tensor:
    """Divide N x ... by the largest magnitude of each of the N parts.

    For losses that do not depend on this scale: powers of features neither
    overflow nor vanish. The divisor has no gradient.
    """
    largest = feat.detach().abs().amax(list(range(1, feat.dim())), True)
    return feat / largest.masked_fill(largest == 0, 1)
