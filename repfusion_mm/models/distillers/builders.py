"""Build the parts of a distiller by the feature shapes of one dry run."""

from __future__ import annotations

import logging
from typing import Any, List, Optional, Sequence, Tuple, Union

import torch
import torch.nn as nn
from mmengine.logging import print_log

from repfusion_mm.models.decoders.base import TaskDecoder
from repfusion_mm.models.losses.base import DistillLoss
from repfusion_mm.models.policies.base import TimestepPolicy
from repfusion_mm.models.policies.static import FixedTimestepPolicy
from repfusion_mm.models.utils.frozen_layers import freezing_settings
from repfusion_mm.registry import MODELS
from repfusion_mm.utils.arguments import check_choice, check_number
from repfusion_mm.utils.types import init_arguments, resolve_type

Shape = Tuple[int, ...]
#: Height and width of an image in pixels.
Size = Tuple[int, int]
#: Arguments of backbones of OpenMMLab and timm, and the value with which they
#: return feature maps instead of vectors or tokens.
MAP_SETTINGS = dict(
    gap_before_final_norm=False,
    gap_before_output=False,
    out_type="'featmap'",
    reshape_last_feat=True,
    features_only=True,
)
#: Layers that are in eval mode in the dry run, and parts of the names of more:
#: batch norms would update their statistics and refuse maps of 1 x 1.
BATCH_NORMS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
)
EVAL_LAYERS = ('Norm', 'Drop', 'StochasticDepth')
#: Short names of normalizers with their default settings.
NORMALIZERS = dict(
    none=None,
    layer_norm=dict(type='repfusion_mm.LayerNormNormalizer'),
    standardize=dict(type='repfusion_mm.StandardizeNormalizer'),
    phi_s=dict(type='repfusion_mm.PHISNormalizer'),
)


def as_tuple(feats) -> tuple:
    """Return a backbone's output, a tensor or a sequence, as a tuple."""
    return tuple(feats) if isinstance(feats, (tuple, list)) else (feats,)


def build_student(config: dict) -> Any:
    """Build the student.

    Raises:
        ValueError: It has no parameters to train.
    """
    student = MODELS.build(config)
    if not any(p.requires_grad for p in student.parameters()):
        raise ValueError(
            f'expected the student {type(student).__name__} to have '
            'parameters to train, got none; '
            + freezing_settings(config, 'model.student')
        )
    return student


def read_indices(indices: Sequence[int]) -> Tuple[int, ...]:
    """Return the indices of the student's maps.

    Raises:
        ValueError: They are not a list of one integer or more.
    """
    if (
        not isinstance(indices, (list, tuple))
        or not indices
        or not all(type(index) is int for index in indices)
    ):
        raise ValueError(
            'expected model.student_indices to be a list of one integer or '
            f'more, got {indices!r}; correct it'
        )
    return tuple(indices)


def choose_memory_format(
    student: nn.Module, channels_last: bool
) -> torch.memory_format:
    """Return the memory format of the student's weights.

    In the channels last format, oneDNN (on CPUs) computes wrong gradients of
    1 x 1 convolutions with a stride and less than 16 input channels (8 without
    AVX-512), and writes beyond its memory:
    https://github.com/uxlfoundation/oneDNN/issues/6035
    The device is not known yet; such small networks are fast in any format.
    """
    wrong = [
        name
        for name, module in student.named_modules()
        if isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and max(module.stride) > 1
        and module.in_channels < 16
    ]
    if not channels_last or wrong:
        if channels_last:
            print_log(
                'student: not in the channels last memory format, in which '
                f'PyTorch on CPUs computes wrong gradients of {wrong}, with '
                'less than 16 channels',
                logger='current',
            )
        return torch.contiguous_format
    return torch.channels_last


def infer_feature_shapes(
    student: nn.Module, indices: Sequence[int], size: Size
) -> List[Shape]:
    """Return (C, H, W) of the student's maps at ``indices``.

    The student runs on a blank image, in training and in eval mode: some
    backbones have parameters that are only used in training, or layers that
    training skips at random. Parameters that influence the maps in neither
    mode are frozen.

    Raises:
        ValueError: The student does not run on images of this size, has no
            N x C x H x W map at an index, or one of frozen layers only.
    """
    training = student.training
    student.train()
    for module in student.modules():
        name = type(module).__name__
        is_norm = isinstance(module, BATCH_NORMS)
        if is_norm or any(kind in name for kind in EVAL_LAYERS):
            module.training = False  # not eval(): without its children
    feats = _run(student, size)
    shapes: List[Shape] = []
    for index in indices:
        try:
            _, channels, height, width = feats[index].shape
        except (IndexError, AttributeError, ValueError):
            got = [getattr(feat, 'shape', type(feat)) for feat in feats]
            raise ValueError(
                f'expected an N x C x H x W map at index {index} of the '
                f'outputs of the student {type(student).__name__}, got '
                f'{got}; set {_map_settings(student)}'
            ) from None
        if not feats[index].requires_grad:
            raise ValueError(
                f'expected the map at index {index} of the outputs of the '
                f'student {type(student).__name__} to depend on parameters '
                'that are trained, got frozen layers only; set '
                'model.student_indices to later maps, or the arguments of '
                'model.student that freeze layers (frozen_stages=-1)'
            )
        shapes.append((channels, height, width))
    _check_layouts(student, indices, shapes, size)
    maps = [feats[index] for index in indices]
    student.eval()
    feats = _run(student, size)
    _freeze_idle_parameters(student, maps + [feats[i] for i in indices])
    student.train(training)
    return shapes


def _run(student: nn.Module, size: Size) -> tuple:
    """Return the outputs for a blank image."""
    try:
        with torch.random.fork_rng(devices=[]):  # of dropout in attention
            return as_tuple(student(torch.zeros(1, 3, *size)))
    except (AssertionError, RuntimeError) as error:
        raise ValueError(
            f'expected the student {type(student).__name__} to run on images '
            f'of {size[0]} x {size[1]}, got: {error}; set model.input_size to '
            'the side of its images'
        ) from error


def _check_layouts(
    student: nn.Module,
    indices: Sequence[int],
    shapes: Sequence[Shape],
    size: Size,
) -> None:
    """Refuse N x H x W x C maps.

    The axes of space have the proportions of the image. If both layouts do, a
    larger image shows which axes they are.
    """
    for index, (first, second, third) in zip(indices, shapes):
        channels_last = _is_proportional(first, second, size)
        if channels_last and _is_proportional(second, third, size):
            try:
                larger = _run(student, (2 * size[0], 2 * size[1]))[index].shape
            except ValueError:  # it only runs on images of one size
                continue
            channels_last = larger[3] == third and larger[1] != first
        if channels_last:
            raise ValueError(
                f'expected an N x C x H x W map at index {index} of the '
                f'outputs of the student {type(student).__name__}, got '
                f'N x {first} x {second} x {third}, whose channels are last '
                '(N x H x W x C); choose a backbone that returns '
                'N x C x H x W, such as the SwinTransformer of mmpretrain '
                'instead of that of timm'
            )


def _is_proportional(height: int, width: int, size: Size) -> bool:
    """Return whether a map has the proportions of an image.

    Both sides are rounded, in a square image in the same way.
    """
    if size[0] == size[1]:
        return height == width
    return abs(height * size[1] - width * size[0]) < sum(size)


def _map_settings(student: nn.Module) -> str:
    """Return the settings with which a student may return feature maps."""
    arguments = init_arguments(type(student))
    found = [
        f'model.student.{name}={value}'
        for name, value in MAP_SETTINGS.items()
        if name in arguments
    ]
    return ' or '.join(found) or (
        'model.student to a backbone that returns feature maps, or its '
        'out_indices to stages that do'
    )


def _freeze_idle_parameters(student: nn.Module, feats: list) -> None:
    """Freeze the parameters that do not influence ``feats``, and log them.

    They have no gradient in any case, and DDP would wait for one.
    """
    named = {n: p for n, p in student.named_parameters() if p.requires_grad}
    # Not torch.autograd.grad: activation checkpointing (with_cp) refuses it.
    sum(feat.sum() for feat in feats).backward()
    idle = [name for name, p in named.items() if p.grad is None]
    student.zero_grad(set_to_none=True)
    for name in idle:
        named[name].requires_grad_(False)
    if idle:
        share = sum(named[name].numel() for name in idle) / sum(
            p.numel() for p in student.parameters()
        )
        print_log(
            f'student: {len(idle)} of {len(named)} tensors ({share:.1%} of '
            'the parameters) do not influence the distilled maps '
            f'({idle[0]} ...): they keep, and are exported with, their '
            'initial values',
            logger='current',
            level=logging.WARNING,
        )


def read_layer_weights(
    weights: Optional[Sequence[float]], num_layers: int
) -> List[float]:
    """Return the weight of each teacher layer, 1 by default.

    Raises:
        ValueError: The weights are not a positive number for each layer.
    """
    name = 'model.layer_weights'
    if weights is None:
        return num_layers * [1.0]
    if not isinstance(weights, (list, tuple)) or len(weights) != num_layers:
        raise ValueError(
            f'expected {name} to be a list of {num_layers}, a number for each '
            f'of model.teacher.layers, got {weights!r}; correct it'
        )
    for weight in weights:
        check_number(f'each of {name}', weight, positive=True)
    return [*weights]


def build_normalizers(
    config: Union[str, dict, None],
    loss: DistillLoss,
    teacher_shapes: Sequence[Shape],
) -> nn.ModuleList:
    """Build a normalizer for each teacher layer.

    Args:
        config: A config, a short name of ``NORMALIZERS``, or None.
        loss: The loss that compares normalized maps.
        teacher_shapes: (C, H, W) of the layers.

    Raises:
        ValueError: The name is unknown, or the loss does not work with the
            normalizer.
    """
    if isinstance(config, str):
        check_choice('model.normalizer', config, [*NORMALIZERS])
        config = NORMALIZERS[config]
    if config is None:
        return nn.ModuleList(nn.Identity() for _ in teacher_shapes)
    if config.get('type') in NORMALIZERS:
        raise ValueError(
            f'expected model.normalizer={config["type"]!r}, or a dict with '
            f'the class as type, got type={config["type"]!r}; set it to '
            f'{(NORMALIZERS[config["type"]] or {}).get("type")!r}'
        )
    if 'num_channels' in config:
        raise ValueError(
            'expected no model.normalizer.num_channels, which is that of each '
            f'layer, got {config["num_channels"]}; remove it'
        )
    normalizers: List[Any] = [
        MODELS.build({**config, 'num_channels': shape[0]})
        for shape in teacher_shapes
    ]
    for normalizer in normalizers:
        normalizer.pooled = loss.pooled
    name = type(normalizers[0]).__name__
    if name in loss.refused_normalizers:
        others = [
            repr(key)
            for key, value in NORMALIZERS.items()
            if getattr(resolve_type(value, MODELS), '__name__', None)
            not in loss.refused_normalizers
        ]
        raise ValueError(
            f'expected another normalizer than {name} for '
            f'{type(loss).__name__}, got {name}, which '
            f'{loss.refused_normalizers[name]}; set model.normalizer='
            + ' or '.join(others[::-1])
        )
    return nn.ModuleList(normalizers)


def build_policy(config: dict, num_timesteps: int) -> TimestepPolicy:
    """Build the policy over a teacher's schedule of timesteps.

    Raises:
        ValueError: The policy has more timesteps than the teacher, or chooses
            from one.
    """
    kind = resolve_type(config, MODELS)
    if (
        num_timesteps == 1
        and isinstance(kind, type)
        and not issubclass(kind, FixedTimestepPolicy)
    ):
        raise ValueError(
            'expected FixedTimestepPolicy with a teacher of one timestep, '
            f'which leaves nothing to choose, got {kind.__name__}; set '
            "model.policy=dict(type='repfusion_mm.FixedTimestepPolicy', "
            '_delete_=True) and optim_wrapper.policy=None'
        )
    policy = MODELS.build({'num_timesteps': num_timesteps, **config})
    if policy.num_timesteps > num_timesteps:
        raise ValueError(
            f"expected policy.num_timesteps within the teacher's schedule "
            f'of {num_timesteps} timesteps, got {policy.num_timesteps}'
        )
    if policy.learnable and len(policy.timesteps) == 1:
        raise ValueError(
            f'expected several timesteps for {type(policy).__name__}, got '
            'one, which leaves nothing to learn; set a wider range (low, '
            'high) or a smaller stride, or '
            "model.policy=dict(type='repfusion_mm.FixedTimestepPolicy', "
            'timestep=..., _delete_=True) and model.decoder=None'
        )
    return policy


def build_decoder(
    config: Optional[dict], in_channels: int, policy: TimestepPolicy
) -> Optional[TaskDecoder]:
    """Build the decoder, or return None if no policy needs its rewards."""
    if config is not None:
        if config.get('in_channels', in_channels) != in_channels:
            raise ValueError(
                f'expected no model.decoder.in_channels, which is that of the '
                f'features ({in_channels}), got {config["in_channels"]}; '
                'remove it'
            )
        return MODELS.build({'in_channels': in_channels, **config})
    if policy.learnable:
        raise ValueError(
            f'expected a decoder to reward {type(policy).__name__}, got '
            'none; add model.decoder, or use FixedTimestepPolicy or '
            'UniformTimestepPolicy for unlabeled images'
        )
    return None
