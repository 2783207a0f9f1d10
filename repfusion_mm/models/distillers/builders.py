"""Fit the parts of a distiller to the teacher, by shapes of one dry run."""

from __future__ import annotations

import logging
from typing import List, Optional, Sequence, Tuple

import torch
import torch.nn as nn
from mmengine.logging import print_log

from repfusion_mm.models.losses.losses import DistillLoss
from repfusion_mm.registry import MODELS

Shape = Tuple[int, int, int]


def as_tuple(feats) -> tuple:
    """Return a backbone's output as a tuple, also where it is one tensor."""
    return tuple(feats) if isinstance(feats, (tuple, list)) else (feats,)


def infer_feature_shapes(
    student: nn.Module, indices: Sequence[int], size: int
) -> List[Shape]:
    """Run the student on a blank image and find the shapes of its maps.

    Args:
        student: A backbone.
        indices: Which of its outputs.
        size: Side of the image in pixels.

    Returns:
        (C, H, W) of each.

    Raises:
        ValueError: The student does not run on images of this size, or has
            no N x C x H x W map at an index.
    """
    training = student.training
    student.eval()  # whose return value mmpretrain forgets
    try:
        feats = as_tuple(student(torch.zeros(1, 3, size, size)))
    except (AssertionError, RuntimeError) as error:
        raise ValueError(
            f'expected the student {type(student).__name__} to run on images '
            f'of {size} x {size}, got: {error}; set model.input_size to the '
            'side of the images that it will see'
        ) from error
    student.train(training)
    shapes = []
    for index in indices:
        try:
            _, channels, height, width = feats[index].shape
        except (IndexError, AttributeError, ValueError):
            got = [getattr(feat, 'shape', type(feat)) for feat in feats]
            raise ValueError(
                f'expected an N x C x H x W map at index {index} of what the '
                f'student {type(student).__name__} returns, got {got}; set '
                'its out_indices (or out_type) to return feature maps'
            ) from None
        shapes.append((channels, height, width))
    _freeze_idle_parameters(student, [feats[index] for index in indices])
    return shapes


def _freeze_idle_parameters(student: nn.Module, feats: list) -> None:
    """Freeze what of the student no loss can reach, and say so.

    It would get no gradient in any case, and DDP would wait for one.
    """
    named = {n: p for n, p in student.named_parameters() if p.requires_grad}
    grads = torch.autograd.grad(
        sum(feat.sum() for feat in feats), list(named.values()),
        allow_unused=True,
    )  # fmt: skip
    idle = [name for name, grad in zip(named, grads) if grad is None]
    for name in idle:
        named[name].requires_grad_(False)
    if idle:
        share = sum(named[name].numel() for name in idle) / sum(
            p.numel() for p in student.parameters()
        )
        print_log(
            f'student: {len(idle)} of {len(named)} tensors ({share:.1%} of '
            'the parameters) do not reach the maps that are compared '
            f'({idle[0]} ...): they stay, and are exported, as initialised',
            logger='current',
            level=logging.WARNING,
        )


def build_connectors(
    config: Optional[dict],
    loss: DistillLoss,
    student_shapes: Sequence[Shape],
    teacher_shapes: Sequence[Shape],
) -> nn.ModuleList:
    """Build what brings each student map to its teacher layer.

    Raises:
        ValueError: The numbers of maps differ, a connector is given to a
            loss that takes none, or maps of one pixel to one that compares
            grids.
    """
    name = type(loss).__name__
    if len(student_shapes) != len(teacher_shapes):
        raise ValueError(
            'expected one student map for each teacher layer, got '
            f'{len(student_shapes)} for {len(teacher_shapes)}; set '
            'model.student_indices'
        )
    if config is not None and not loss.needs_connector:
        raise ValueError(
            f'expected no connector with {name}, which compares maps of any '
            f'channels, got {config}'
        )
    connectors = nn.ModuleList()
    for ours, theirs in zip(student_shapes, teacher_shapes):
        if loss.needs_grid and 1 in (ours[1] * ours[2], theirs[1] * theirs[2]):
            raise ValueError(
                f'expected maps of more than one pixel for {name}, got {ours} '
                f'from the student and {theirs} from the teacher (C, H, W); '
                'use layers before the pooling'
            )
        connector: nn.Module = nn.Identity()
        if loss.needs_connector:
            connector = MODELS.build(
                {
                    'type': 'repfusion_mm.ConvConnector',
                    **(config or {}),
                    'in_channels': ours[0],
                    'out_channels': theirs[0],
                }
            )
        connectors.append(connector)
    return connectors


def build_policy(config: dict, num_timesteps: int) -> nn.Module:
    """Build the policy over a teacher's schedule.

    Raises:
        ValueError: The policy's schedule is longer than the teacher's.
    """
    policy = MODELS.build({'num_timesteps': num_timesteps, **config})
    if policy.num_timesteps > num_timesteps:
        raise ValueError(
            f"expected policy.num_timesteps within the teacher's schedule "
            f'of {num_timesteps} timesteps, got {policy.num_timesteps}'
        )
    return policy


def build_decoder(
    config: Optional[dict], in_channels: int, policy: nn.Module
) -> Optional[nn.Module]:
    """Build the decoder, where there is one.

    Raises:
        ValueError: There is none to reward a learned policy.
    """
    if config is not None:
        return MODELS.build({'in_channels': in_channels, **config})
    if policy.learnable:
        raise ValueError(
            f'expected a decoder, which rewards {type(policy)}, got '
            'none; add model.decoder, or use FixedTimestepPolicy or '
            'UniformTimestepPolicy for unlabelled images'
        )
    return None
