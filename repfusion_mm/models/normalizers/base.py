"""The interface of a normalizer, and the collection of its statistics."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, Dict, Optional, Tuple

import torch
import torch.nn as nn
from mmengine.dist import all_reduce, get_world_size
from mmengine.logging import print_log

from repfusion_mm.models.utils.autocast import without_autocast
from repfusion_mm.utils.arguments import check_integer, check_number

#: Standard deviation, relative to the mean, of constant values in float32.
CONSTANT = 1e-5
PLACE = 'model.normalizer'


class BaseNormalizer(nn.Module, ABC):
    """Scale the maps of one layer of the teacher.

    Statistics are collected during the first steps of training and are fixed
    afterwards. Until then, a step uses the statistics of all images so far,
    including its own. Each image has equal weight. The number of steps
    follows from the size of the first batch on all ranks, so that no step has
    to read a count from the device.

    The statistics are in the checkpoint. A deep copy is the normalizer
    itself: an EMA copy of the model does not average statistics, even with
    ``update_buffers=True``.

    To add a normalizer, register a subclass in ``MODELS``, implement
    ``normalize``, and extend ``update`` if there are more statistics.

    Args:
        num_channels: C of the layer; the distiller sets it.
        num_images: Number of images of the statistics, rounded up to complete
            batches; 0 if there are no statistics.
        discard_massive: Channels whose mean magnitude exceeds this factor
            times the median over channels become zero; None keeps all
            channels. Some channels of transformers are larger by orders of
            magnitude and are the same for all images (DiTF, 2025).

    Raises:
        ValueError: ``num_images`` is below 2, or ``discard_massive`` is not
            above 1.
    """

    #: Whether mean and variance are those of globally averaged maps, because
    #: the loss compares these; the distiller sets it.
    pooled = False
    count: torch.Tensor
    magnitude: torch.Tensor
    mean: torch.Tensor

    def __init__(
        self,
        num_channels: int,
        num_images: int = 1024,
        discard_massive: Optional[float] = None,
    ) -> None:
        super().__init__()
        if num_images != 0:
            check_integer(f'{PLACE}.num_images', num_images, low=2)
        if discard_massive is not None:
            check_number(f'{PLACE}.discard_massive', discard_massive)
            if discard_massive <= 1:
                raise ValueError(
                    f'expected {PLACE}.discard_massive to be above 1, got '
                    f'{discard_massive}: it would discard half of the '
                    'channels; set None to keep all channels'
                )
        self.num_channels = num_channels
        self.num_images = num_images
        self.discard_massive = discard_massive
        #: Steps until the statistics are complete; -1 before the first one.
        self.steps_left = -1 if num_images else 0
        if num_images:
            self.register_buffer('count', torch.zeros(()))
        if discard_massive is not None:
            self.register_buffer('magnitude', torch.zeros(num_channels))

    @abstractmethod
    def normalize(
        self, feat: torch.Tensor, massive: Optional[torch.Tensor]
    ) -> torch.Tensor:
        """Return normalized N x C x h x w maps.

        Args:
            feat: N x C x h x w, float32.
            massive: C x 1 x 1 booleans: the channels that become zero. None
                if all channels are kept.
        """

    @torch.no_grad()
    def forward(self, feat: torch.Tensor) -> torch.Tensor:
        """Normalize N x C x h x w maps, in float32 also under autocast.

        In training mode, the maps are part of the statistics until these are
        complete.
        """
        with without_autocast(feat.device):
            feat = feat.float()
            if self.training and self.steps_left != 0:
                self._collect(feat)
            return self.normalize(feat, self.massive_channels())

    def massive_channels(self) -> Optional[torch.Tensor]:
        """Return C x 1 x 1 booleans, or None to keep all channels."""
        if self.discard_massive is None:
            return None
        limit = self.discard_massive * self.magnitude.median()
        return (self.magnitude > limit)[:, None, None]

    def describe(self) -> Dict[str, Any]:
        """Return type, settings and compact statistics.

        This reads from the device.
        """
        content: Dict[str, Any] = dict(type=type(self).__name__)
        if self.num_images:
            content.update(
                num_images=int(self.count), complete=self.steps_left == 0
            )
        massive = self.massive_channels()
        if massive is not None:
            content.update(
                discard_massive=self.discard_massive,
                massive_channels=massive.nonzero()[:, 0].tolist(),
            )
        return content

    def update(
        self, feat: torch.Tensor, count: torch.Tensor, weight: torch.Tensor
    ) -> None:
        """Add a batch to the statistics.

        Args:
            feat: N x C x h x w of this rank.
            count: Number of images of the batch, on all ranks.
            weight: Share of the batch in all images so far.
        """
        if self.discard_massive is not None:
            batch = all_reduce_mean(feat.abs().mean((2, 3)).sum(0), count)
            self.magnitude.lerp_(batch, weight)

    def update_mean(
        self, feat: torch.Tensor, count: torch.Tensor, weight: torch.Tensor
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Add a batch to the buffer ``mean`` (Chan et al., 1979).

        Returns:
            The maps, averaged if ``pooled``, minus the mean of the batch; and
            this mean minus the previous one.
        """
        if self.pooled:
            feat = feat.mean((2, 3), keepdim=True)
        mean = all_reduce_mean(feat.mean((2, 3)).sum(0), count)
        delta = mean - self.mean
        self.mean += weight * delta
        return feat - mean[:, None, None], delta

    def complete(self) -> None:
        """Finish the statistics; massive channels are logged.

        For this log, the last step of the collection reads from the device.
        """
        massive = self.massive_channels()
        if massive is not None and not massive.is_meta:
            print_log(
                f'normalizer: channels {massive.nonzero()[:, 0].tolist()} of '
                f'{self.num_channels} are massive and become zero',
                logger='current',
            )

    def get_extra_state(self) -> torch.Tensor:
        """Return ``steps_left`` for the checkpoint."""
        return torch.tensor(self.steps_left)

    def set_extra_state(self, state: torch.Tensor) -> None:
        """Continue the collection of a checkpoint."""
        self.steps_left = int(state)

    def __deepcopy__(self, memo: dict) -> BaseNormalizer:
        return self

    def _collect(self, feat: torch.Tensor) -> None:
        if self.steps_left < 0:
            # All ranks agree: the first batch of an epoch is complete.
            size = len(feat) * get_world_size()
            self.steps_left = math.ceil(self.num_images / size)
        count = feat.new_full((), len(feat))
        all_reduce(count)
        self.count += count
        self.update(feat, count, count / self.count)
        self.steps_left -= 1
        if self.steps_left == 0:
            self.complete()


def zero_channels(
    feat: torch.Tensor, massive: Optional[torch.Tensor]
) -> torch.Tensor:
    """Set massive channels of N x C x h x w maps to zero."""
    return feat if massive is None else feat.masked_fill(massive, 0)


def all_reduce_mean(total: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """All-reduce ``total`` in place, and return it divided by ``count``."""
    all_reduce(total)
    return total / count


def divide_by_std(
    centered: torch.Tensor, std: torch.Tensor, mean: torch.Tensor
) -> torch.Tensor:
    """Divide by the standard deviation; constant values become zero.

    Their rounding errors would be scaled to variance one.
    """
    constant = std <= CONSTANT * mean.abs()
    return (centered / std.masked_fill(constant, 1)).masked_fill(constant, 0)
