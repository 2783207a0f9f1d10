"""PHI-S: one scale for all directions of the features."""

from __future__ import annotations

import hashlib
from typing import Any, Dict, Optional

import torch
from mmengine.dist import broadcast

from repfusion_mm.models.normalizers.base import (
    PLACE,
    BaseNormalizer,
    all_reduce_mean,
    divide_by_std,
    zero_channels,
)
from repfusion_mm.models.normalizers.hadamard import find_orders, hadamard
from repfusion_mm.registry import MODELS


@MODELS.register_module()
class PHISNormalizer(BaseNormalizer):
    """Remove the mean, rotate, and scale all channels by one number.

    The rotation goes to the eigenbasis of the covariance and from there by a
    Hadamard matrix, after which every channel has the same variance: one, on
    all positions of the first ``num_images`` images, or on their globally
    averaged maps if the loss compares these (PHI-S, RADIO, arXiv 2410.01680).
    Unlike standardization, this keeps the ratios of distances between
    features.

    While statistics are collected, mean and scale are those of all images so
    far, and the rotation is the identity. The eigendecomposition is that of
    rank 0. It takes place once, in the last step of the collection, which
    therefore synchronizes with the device.

    A C x C matrix is kept and saved: 36 MB at C = 3072. The rotation takes
    2 C^2 FLOP per position.

    Args:
        num_channels: C of the layer; the distiller sets it.
        num_images: See :class:`BaseNormalizer`.
        discard_massive: See :class:`BaseNormalizer`.

    Raises:
        ValueError: There is no Hadamard matrix of size C.
    """

    scale: torch.Tensor
    matrix: torch.Tensor

    def __init__(
        self,
        num_channels: int,
        num_images: int = 1024,
        discard_massive: Optional[float] = None,
    ) -> None:
        if find_orders(num_channels) is None:
            raise ValueError(
                'expected a number of channels of which a Hadamard matrix is '
                f'known for PHISNormalizer, got {num_channels}; set '
                f"{PLACE}='standardize', or model.teacher.layers to a layer "
                'of other channels'
            )
        super().__init__(num_channels, num_images, discard_massive)
        self.register_buffer('mean', torch.zeros(num_channels))
        self.register_buffer('scale', torch.zeros(()))
        # The covariance during the collection, the rotation afterwards.
        self.register_buffer('matrix', torch.zeros(num_channels, num_channels))

    def update(
        self, feat: torch.Tensor, count: torch.Tensor, weight: torch.Tensor
    ) -> None:
        """Add a batch to mean and covariance."""
        super().update(feat, count, weight)
        centered, delta = self.update_mean(feat, count, weight)
        # One product of C x N P and N P x C matrices.
        columns = centered.transpose(0, 1).flatten(1)
        covariance = columns @ columns.T / centered[0, 0].numel()
        self.matrix.lerp_(all_reduce_mean(covariance, count), weight)
        self.matrix += weight * (1 - weight) * torch.outer(delta, delta)
        variances = self.matrix.diagonal() * self._kept()
        self.scale.copy_(variances.mean().sqrt())

    def complete(self) -> None:
        """Replace the covariance by the rotation."""
        super().complete()
        kept = self._kept()
        covariance = self.matrix.double() * kept[:, None] * kept
        _, vectors = torch.linalg.eigh(covariance)
        signs = torch.from_numpy(hadamard(self.num_channels)).to(vectors)
        rotation = signs @ vectors.T / self.num_channels**0.5
        self.matrix.copy_(rotation)
        broadcast(self.matrix)

    def normalize(
        self, feat: torch.Tensor, massive: Optional[torch.Tensor]
    ) -> torch.Tensor:
        """Subtract the mean, rotate and scale."""
        mean = self.mean[:, None, None]
        feat = zero_channels(feat - mean, massive)
        if self.steps_left == 0:
            feat = (self.matrix @ feat.flatten(2)).view(feat.shape)
        mean = zero_channels(mean, massive).square().mean().sqrt()
        return divide_by_std(feat, self.scale, mean)

    def describe(self) -> Dict[str, Any]:
        """Return type, settings, mean, scale and a hash of the rotation."""
        rotation = self.matrix.cpu().numpy().tobytes()
        return dict(
            super().describe(),
            mean=self.mean.cpu(),
            scale=float(self.scale),
            rotation_sha256=hashlib.sha256(rotation).hexdigest(),
        )

    def _kept(self) -> torch.Tensor:
        """Return C numbers: 0 for massive channels, 1 for others."""
        ones = torch.ones_like(self.mean)[:, None, None]
        return zero_channels(ones, self.massive_channels()).flatten()
