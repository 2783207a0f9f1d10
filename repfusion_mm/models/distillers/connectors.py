"""Build what maps the student's maps to the teacher's channels."""

from __future__ import annotations

import traceback
from typing import Optional, Sequence

import torch
import torch.nn as nn

from repfusion_mm.models.connectors.base import (
    MultiLevelConnector,
    SeparateConnectors,
)
from repfusion_mm.models.distillers.builders import Shape
from repfusion_mm.models.losses.base import DistillLoss
from repfusion_mm.registry import MODELS
from repfusion_mm.utils.types import is_type, resolve_type


def build_connectors(
    config: Optional[dict],
    loss: DistillLoss,
    student_shapes: Sequence[Shape],
    teacher_shapes: Sequence[Shape],
) -> nn.Module:
    """Build what maps the student's maps to the teacher's channels.

    This is a connector for each level or, if the config names a
    ``MultiLevelConnector``, one for all of them. Shapes are (C, H, W).

    Raises:
        ValueError: The numbers of maps differ, a connector is configured for
            a loss that uses none, or loss or connector need a grid and a map
            has one pixel.
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
            f'expected no connector with {name}, which compares maps of '
            f'different channels, got {config}; remove model.connector'
        )
    if not isinstance(config, (dict, type(None))):
        fix = 'correct it'
        if isinstance(config, (str, type)):
            fix = f'set dict(type={config!r})'
        raise ValueError(
            'expected model.connector to be a dict with the class as type, '
            f'got {config!r}; {fix}'
        )
    config = {'type': 'repfusion_mm.ConvConnector', **(config or {})}
    is_joint = is_type(config, MultiLevelConnector, MODELS)
    if loss.needs_grid:
        _check_grids(name, student_shapes, teacher_shapes)
    if is_joint:
        kind = resolve_type(config, MODELS)
        _check_grids(kind.__name__, student_shapes, teacher_shapes)
        shapes = dict(in_shapes=student_shapes, out_shapes=teacher_shapes)
        connectors = _build_connector(config, shapes)
    else:
        connectors = SeparateConnectors()
        for ours, theirs in zip(student_shapes, teacher_shapes):
            connector: nn.Module = nn.Identity()
            if loss.needs_connector:
                channels = dict(in_channels=ours[0], out_channels=theirs[0])
                connector = _build_connector(config, channels)
            connectors.append(connector)
    if loss.needs_connector:
        _check_connectors(connectors, config, student_shapes, teacher_shapes)
    return connectors


def _build_connector(config: dict, shapes: dict) -> nn.Module:
    """Build a connector, and name its setting in the errors of its layers."""
    given = sorted({*config} & {*shapes})
    if given:
        raise ValueError(
            f'expected no {" and ".join(given)} in model.connector, which the '
            f'distiller sets, got {config}; remove them'
        )
    try:
        return MODELS.build({**config, **shapes})
    except Exception as error:  # of any layer
        text = str(error)
        is_ours = 'expected ' in text and 'model.' in text
        # mmengine's, for a type or an argument in the config that is unknown.
        is_usage = _last_frame(error).name == 'build_from_cfg' and not any(
            name in text for name in shapes
        )
        if is_ours or is_usage:
            raise
        raise ValueError(
            f'expected model.connector={config} to be built with '
            f'{" and ".join(shapes)}, got {_describe(error)}; correct its '
            'settings'
        ) from error


def _describe(error: Exception) -> str:
    """Return the name of an error, and its text or the line of the code."""
    text = str(error) or _last_frame(error).line
    return f'{type(error).__name__}: {text}'


def _last_frame(error: Exception) -> traceback.FrameSummary:
    return traceback.extract_tb(error.__traceback__)[-1]


def _check_connectors(
    connectors: nn.Module,
    config: dict,
    student_shapes: Sequence[Shape],
    teacher_shapes: Sequence[Shape],
) -> None:
    """Refuse connectors that do not return the teacher's channels."""
    training = connectors.training
    connectors.eval()
    try:
        with torch.no_grad():
            maps = connectors([torch.zeros(1, *s) for s in student_shapes])
        found = [feat.shape[1] for feat in maps]
    except Exception as error:  # of any layer
        raise ValueError(
            f'expected model.connector={config} to run on maps of '
            f'{[*student_shapes]} (C, H, W), got {_describe(error)}; correct '
            'its settings'
        ) from error
    connectors.train(training)
    expected = [shape[0] for shape in teacher_shapes]
    if found != expected:
        raise ValueError(
            f"expected model.connector={config} to map the student's maps to "
            f'{expected} channels, got {found}; correct its settings'
        )


def _check_grids(
    name: str,
    student_shapes: Sequence[Shape],
    teacher_shapes: Sequence[Shape],
) -> None:
    """Refuse maps of one pixel."""
    for ours, theirs in zip(student_shapes, teacher_shapes):
        if 1 in (ours[1] * ours[2], theirs[1] * theirs[2]):
            raise ValueError(
                f'expected maps of more than one pixel for {name}, got {ours} '
                f'from the student and {theirs} from the teacher (C, H, W); '
                'use layers before the pooling'
            )
