"""A frozen timm model, such as DINOv2, whose layers are read."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import torch
import torch.nn as nn
from mmengine.logging import print_log
from mmengine.utils import to_2tuple

from repfusion_mm.models.connectors.conv_connector import resize_to
from repfusion_mm.models.teachers.base import BaseTeacher
from repfusion_mm.models.teachers.dtype import DTYPES, resolve_dtype
from repfusion_mm.models.teachers.features.feature_extractor import (
    FeatureExtractor,
)
from repfusion_mm.models.teachers.loading.fingerprint import hash_weights
from repfusion_mm.models.teachers.loading.timm import (
    load_timm_model,
    resolve_layers,
)
from repfusion_mm.models.utils.autocast import without_autocast
from repfusion_mm.registry import MODELS
from repfusion_mm.utils.arguments import (
    check_choice,
    check_flags,
    read_size,
)
from repfusion_mm.utils.messages import PARAMETERS, scale


class IntermediatesExtractor(FeatureExtractor):
    """Run a timm model up to the last of some layers, without hooks.

    Args:
        module: The model.
        indices: The index of each layer by its name.
        norm: Apply the model's final normalization.
        compile: See :class:`FeatureExtractor`.
    """

    def __init__(
        self,
        module: nn.Module,
        indices: Dict[str, int],
        norm: bool,
        compile: bool = False,
    ) -> None:
        super().__init__(module, layers=(), compile=compile)
        self.indices, self.norm = indices, norm

    def _run(self, sample: torch.Tensor) -> Dict[str, torch.Tensor]:
        model: Any = self.module
        ordered = sorted(self.indices.values())
        maps = model.forward_intermediates(
            sample,
            indices=ordered,
            norm=self.norm,
            stop_early=True,
            output_fmt='NCHW',
            intermediates_only=True,
        )
        found = dict(zip(ordered, maps))  # not in the order of the config
        return {name: found[index] for name, index in self.indices.items()}


@MODELS.register_module()
class TimmTeacher(BaseTeacher):
    """Extract feature maps of a frozen timm model, without timesteps.

    The schedule has one timestep, T = 1, which does not influence the
    features. The model's own ``forward_intermediates`` exits early after the
    last requested layer and removes class and register tokens. The weights of
    later layers are released.

    Args:
        model: Name of a timm model, e.g.
            ``'vit_base_patch14_reg4_dinov2.lvd142m'``.
        layers: Blocks of a transformer, or stages of a ConvNet, by their
            index in timm's ``out_indices`` (negative from the end) or by their
            name in ``feature_info``, e.g. ``[-1]`` or ``['blocks.11']``.
        pretrained: True for timm's weights of that name, from its cache or
            the hub; False for random ones; or a file with the weights
            (``.safetensors``, ``.pth``, ``.bin``), which must fit completely,
            except for the classifier.
        input_size: Side, or height and width, in pixels to which images are
            resized (bilinear, antialiased): multiples of the patch of a
            transformer, whose position embedding is resampled once. By
            default images are not resized, and must have the size that the
            model is made for.
        norm: Apply the model's final normalization to the maps.
        model_args: Other arguments of ``timm.create_model``.
        dtype: The dtype that the teacher computes in; see
            :class:`~repfusion_mm.models.teachers.DiffusersTeacher`.
        channels_last: Store the weights in the channels last memory format,
            which is faster for ConvNets on some devices.
        compile: Run the pass through ``torch.compile``, which compiles once
            for each shape of a batch.

    Raises:
        ImportError: timm is not installed.
        ValueError: The model or a layer is unknown, a side is not a multiple
            of the patch, the file does not fit the model, or an argument is
            not one of its choices.
        OSError: The weights are neither on disk nor on the hub.
    """

    backbone: Any

    def __init__(
        self,
        model: str,
        layers: Sequence[Union[int, str]],
        pretrained: Union[bool, str] = True,
        input_size: Union[int, Sequence[int], None] = None,
        norm: bool = False,
        model_args: Optional[dict] = None,
        dtype: str = 'auto',
        channels_last: bool = False,
        compile: bool = False,
    ) -> None:
        super().__init__()
        check_choice('model.teacher.dtype', dtype, DTYPES)
        check_flags(
            'model.teacher',
            norm=norm,
            channels_last=channels_last,
            compile=compile,
        )
        self.input_size = None
        if input_size is not None:
            self.input_size = read_size('model.teacher.input_size', input_size)
        self.model, self.norm, self.dtype = model, norm, dtype
        if not isinstance(model_args, (dict, type(None))):
            raise ValueError(
                'expected model.teacher.model_args to be a dict, got '
                f'{model_args!r}; on the command line, set each of its values '
                'as model.teacher.model_args.NAME=VALUE'
            )
        self.model_args = dict(model_args or {})
        self.memory_format = (
            torch.channels_last if channels_last else torch.contiguous_format
        )
        self.backbone = load_timm_model(
            model, pretrained, self.input_size, self.model_args
        )
        config = self.backbone.pretrained_cfg
        self.size = self.input_size or tuple(config['input_size'][-2:])
        self._check_patch()
        self.num_timesteps = 1
        height, width = self.size
        self.image_size = height if height == width else self.size
        self._mean, self._std = (
            torch.tensor(config[name]).view(1, -1, 1, 1)
            for name in ('mean', 'std')
        )
        indices = resolve_layers(self.backbone, model, layers)
        self.layers = tuple(indices)
        self._release_unused(sorted(indices.values()))
        self.freeze()
        self.feature_extractor = IntermediatesExtractor(
            self.backbone, indices, norm, compile
        )
        with self.feature_extractor.uncompiled():
            self.feature_shapes = self._dry_run(indices)
        self._logged_dtype: Optional[tuple] = None
        # With dtype='auto' and a GPU, the dtype is chosen in .to().
        if dtype != 'auto' or not torch.cuda.is_available():
            self._cast_weights()

    def forward(
        self,
        images: torch.Tensor,
        timesteps: torch.Tensor,
        data_samples: Optional[Sequence] = None,
    ) -> Dict[str, torch.Tensor]:
        """Extract the features of ``layers``; see the base class.

        Raises:
            ValueError: Images of another size, without ``input_size``.
        """
        if self.input_size is None and images.shape[-2:] != self.size:
            raise ValueError(
                f'expected images of {self.size[0]} x {self.size[1]}, which '
                f'{self.model} is made for, got {tuple(images.shape[-2:])}; '
                f'set model.teacher.input_size={self.image_size} to resize '
                'them, or to a smaller size, which costs less'
            )
        feats = self._extract(images, self.feature_extractor)
        return {name: feat.float() for name, feat in feats.items()}

    def fingerprint(self) -> Dict[str, object]:
        """Return what features depend on; see the base class.

        Call it after the teacher was moved to its device, which settles its
        dtype.
        """
        return dict(
            weights=hash_weights(self.backbone),
            model=self.model.partition('.')[0],
            model_args={k: repr(v) for k, v in self.model_args.items()},
            layers={k: list(v) for k, v in self.feature_shapes.items()},
            norm=self.norm,
            mean=self._mean.flatten().tolist(),
            std=self._std.flatten().tolist(),
            dtype=str(self._compute_dtype()).replace('torch.', ''),
            size=list(self.size),
        )

    @property
    def network(self) -> nn.Module:
        """The timm model."""
        return self.backbone

    def _apply(self, fn, *args, **kwargs) -> TimmTeacher:
        """Cast the weights for the new device after ``.to()`` and the like."""
        super()._apply(fn, *args, **kwargs)
        self._cast_weights()
        return self

    def _cast_weights(self) -> None:
        device = next(self.backbone.parameters()).device
        # Not buffers, which .half() would round.
        self._mean, self._std = self._mean.to(device), self._std.to(device)
        dtype = resolve_dtype(self.dtype, device)
        # Rotary embeddings stay in float32, in which timm applies them.
        rope = getattr(self.backbone, 'rope', None)
        if rope is not None:
            self.backbone.rope = None
        self.backbone.to(dtype=dtype, memory_format=self.memory_format)
        if rope is not None:
            self.backbone.rope = rope.float()
        if self._logged_dtype != (dtype, device):
            self._logged_dtype = dtype, device
            print_log(f'teacher: computes in {dtype} on {device}', 'current')

    def _compute_dtype(self) -> torch.dtype:
        return next(self.backbone.parameters()).dtype

    @torch.no_grad()
    def _extract(
        self, images: torch.Tensor, extractor: IntermediatesExtractor
    ) -> Dict[str, torch.Tensor]:
        sample = (resize_to(images, self.size) - self._mean) / self._std
        sample = sample.to(self._compute_dtype())
        with without_autocast(images.device):
            return extractor(sample)

    def _release_unused(self, indices: List[int]) -> None:
        before = _count_parameters(self.backbone)
        self.backbone.prune_intermediate_layers(
            indices, prune_norm=not self.norm, prune_head=True
        )
        released = before - _count_parameters(self.backbone)
        print_log(
            f'teacher: exits after the last of {list(self.layers)}; '
            f'released {scale(released, PARAMETERS)} of later layers',
            logger='current',
        )

    def _check_patch(self) -> None:
        """Refuse sides of which a transformer would ignore the last pixels."""
        embed = getattr(self.backbone, 'patch_embed', None)
        patches = to_2tuple(getattr(embed, 'patch_size', 1))  # an int in XCiT
        for side, patch in zip(self.size, patches):
            below = side // patch * patch
            if side != below:
                near = [str(s) for s in (below, below + patch) if s]
                raise ValueError(
                    'expected model.teacher.input_size to be a multiple of '
                    f'{patch}, the patch of {self.model}, got {side}; set it '
                    f'to {" or ".join(near)}'
                )

    def _dry_run(self, indices: Dict[str, int]) -> Dict[str, Tuple[int, ...]]:
        """Return (C, H, W) of each layer."""
        blank = torch.zeros(1, 3, *self.size)
        try:
            feats = self._extract(blank, self.feature_extractor)
        except (AssertionError, RuntimeError) as error:
            raise ValueError(
                f'expected {self.model} to run on images of {self.size[0]} x '
                f'{self.size[1]}, got: {error}; set model.teacher.input_size '
                'to a size that it supports'
            ) from error
        if self.norm and not blank.is_meta:
            plain = IntermediatesExtractor(self.backbone, indices, norm=False)
            raw = self._extract(blank, plain)
            same = [k for k, feat in feats.items() if feat.equal(raw[k])]
            if same:
                raise ValueError(
                    'expected a final normalization of the maps with '
                    f'model.teacher.norm=True, got {same} of {self.model}, '
                    'which has none there; set it to False'
                )
        return {name: tuple(feat.shape[1:]) for name, feat in feats.items()}


def _count_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
