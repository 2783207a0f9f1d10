"""A feature pyramid from the student's stages to the teacher's layers."""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmcv.cnn import ConvModule, is_norm
from mmengine.dist import get_world_size

from repfusion_mm.models.connectors.base import MultiLevelConnector
from repfusion_mm.models.connectors.conv_connector import resize_to
from repfusion_mm.registry import MODELS
from repfusion_mm.utils.arguments import check_integer, check_widths
from repfusion_mm.utils.types import resolve_type

PLACE = 'model.connector'
#: Norms that do not need other images. All others are batch norms.
NORMS_OF_AN_IMAGE = (nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm2d)


@MODELS.register_module()
class FeatureRegressor(MultiLevelConnector):
    """Predict the teacher's layers by a feature pyramid with pooling.

    The feature regressor of DreamTeacher (arXiv 2307.07487): an FPN with a
    pyramid pooling module on the last map, as in UPerNet (arXiv 1807.10221).
    Each level ends in a 1 x 1 convolution to the teacher's channels, and is
    resized to the teacher's grid.

    The top-down path resizes to the next map, so that strides may be any,
    also equal ones. The order of the levels is fine to coarse.

    Args:
        in_shapes: (C, H, W) of the student's maps; the distiller sets it.
        out_shapes: (C, H, W) of the teacher's layers; the distiller sets it.
        channels: Channels of the pyramid.
        pool_scales: Sides of the grids to which the last map is pooled.
        norm_cfg: Config of the norm layers; None for none.
        act_cfg: Config of the activations; None for none.

    Raises:
        ValueError: ``channels`` or ``pool_scales`` are no positive integers,
            a config of layers names none, a scale is larger than the last
            map, or a map is larger than the one before it.
    """

    def __init__(
        self,
        in_shapes: Sequence[Tuple[int, ...]],
        out_shapes: Sequence[Tuple[int, ...]],
        channels: int = 256,
        pool_scales: Sequence[int] = (1, 2, 3, 6),
        norm_cfg: Optional[dict] = dict(type='BN'),  # noqa: B006
        act_cfg: Optional[dict] = dict(type='ReLU'),  # noqa: B006
    ) -> None:
        super().__init__(in_shapes, out_shapes)
        check_integer(f'{PLACE}.channels', channels)
        check_widths(f'{PLACE}.pool_scales', pool_scales)
        for name, cfg in dict(norm_cfg=norm_cfg, act_cfg=act_cfg).items():
            if cfg is not None and resolve_type(cfg, MODELS) is None:
                raise ValueError(
                    f'expected {PLACE}.{name} to be None, or a dict with the '
                    f'type of a registered layer, got {cfg!r}; correct it'
                )
        sizes = [tuple(shape[1:]) for shape in self.in_shapes]
        if sizes != sorted(sizes, reverse=True):
            raise ValueError(
                'expected student maps from fine to coarse for '
                f'FeatureRegressor, got {sizes}; order model.student_indices '
                'and model.teacher.layers'
            )
        last_channels, *last_size = self.in_shapes[-1]
        if max(pool_scales, default=0) > min(last_size):
            raise ValueError(
                f'expected {PLACE}.pool_scales of at most {min(last_size)}, '
                f'the side of the last student map, got {[*pool_scales]}; '
                'leave out the larger ones'
            )

        def convolve(in_channels: int, kernel_size: int) -> ConvModule:
            return ConvModule(
                in_channels,
                channels,
                kernel_size,
                padding=kernel_size // 2,
                norm_cfg=norm_cfg,
                act_cfg=act_cfg,
                inplace=False,
            )

        # As mmseg's PPM and UPerHead. Their import needs mmseg and the
        # operators of mmcv, which the core environment does not have.
        self.pools = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(scale), convolve(last_channels, 1)
            )
            for scale in pool_scales
        )
        self.has_one_pixel = 1 in pool_scales
        width = last_channels + len(pool_scales) * channels
        self.bottleneck = convolve(width, 3)
        finer = self.in_shapes[:-1]
        self.laterals = nn.ModuleList(convolve(c, 1) for c, _, _ in finer)
        self.smooth = nn.ModuleList(convolve(channels, 3) for _ in finer)
        self.outputs = nn.ModuleList(
            nn.Conv2d(channels, out_channels, 1)
            for out_channels, _, _ in self.out_shapes
        )

    def forward(self, feats: Sequence[torch.Tensor]) -> List[torch.Tensor]:
        """Return N x C_t x H x W of each level, in float32 or more.

        Raises:
            ValueError: Batch norm would have to normalize a single value.
        """
        if self.training:
            self.check_batch(len(feats[-1]))
        maps = [conv(feat) for conv, feat in zip(self.laterals, feats)]
        maps.append(self._pool(feats[-1]))
        for i in range(len(maps) - 1, 0, -1):
            maps[i - 1] = maps[i - 1] + _upsample(maps[i], maps[i - 1])
        maps[:-1] = [conv(feat) for conv, feat in zip(self.smooth, maps)]
        outputs = []
        for conv, feat, shape in zip(self.outputs, maps, self.out_shapes):
            output = conv(feat)
            # Antialiased resizing does not work in bfloat16 on CPUs.
            dtype = torch.promote_types(output.dtype, torch.float32)
            outputs.append(resize_to(output.to(dtype), shape[1:]))
        return outputs

    def _pool(self, feat: torch.Tensor) -> torch.Tensor:
        pooled = [_upsample(pool(feat), feat) for pool in self.pools]
        return self.bottleneck(torch.cat([feat, *pooled], dim=1))

    def check_batch(self, num_images: int) -> None:
        """Refuse one image if a batch norm has a map of one pixel."""
        norm = self.bottleneck.norm
        if isinstance(norm, nn.SyncBatchNorm):
            num_images *= get_world_size()
        if (
            num_images == 1
            and self.has_one_pixel
            and is_norm(norm, exclude=NORMS_OF_AN_IMAGE)
        ):
            raise ValueError(
                'expected batches of two images or more for batch norm on '
                'maps that are pooled to one pixel, got one; increase '
                'train_dataloader.batch_size, or set '
                f"{PLACE}.norm_cfg=dict(type='GN', num_groups=32)"
            )


def _upsample(feat: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Resize a map to the grid of another, as in mmseg."""
    return F.interpolate(feat, size=target.shape[-2:], mode='bilinear')
