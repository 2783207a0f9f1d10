"""Compare a backbone's images with those that its weights were trained on."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any, List, Tuple

import torch
import torch.nn as nn
from mmengine.logging import print_log

from repfusion_mm.engine.checkpoint.initializers import SOURCE
from repfusion_mm.engine.preflight.channel_order import trace_parts
from repfusion_mm.engine.utils import unwrap_model

#: Largest difference of mean and std, in standard deviations.
TOLERANCE = 0.01


def describe_pixels(model: Any) -> dict:
    """Return mean, std and channel order of the inputs of a student.

    Args:
        model: A ``RepFusion``.
    """
    mean, std = _normalization(model.data_preprocessor)
    return dict(mean=mean, std=std, channel_order=model.channel_order)


def check_student_pixels(runner, module: nn.Module) -> None:
    """Refuse other images than those of the distillation.

    An image of one color is sent through the training pipeline and the data
    preprocessor.

    Args:
        runner: The runner before its first iteration.
        module: A backbone that ``StrictPretrained`` has loaded.

    Raises:
        ValueError: The mean, std or channel order differs.
    """
    source = getattr(module, SOURCE, None)
    if source is None:  # another module, or loaded with its parent
        return
    file, pixels, allow_changes = source
    if pixels is None:
        print_log(
            f'mean, std and channel order are not compared with those of '
            f'{file}, which does not record them',
            logger='current',
        )
        return
    problem = _find_difference(
        pixels, unwrap_model(runner), runner.train_dataloader.dataset
    )
    if problem is None:
        return
    found, conversion = problem
    cfg = runner.cfg
    nested = isinstance(cfg.get('model'), dict) and cfg.model.get(
        'data_preprocessor'
    )
    top = not nested and cfg.get('data_preprocessor')
    place = 'data_preprocessor' if top else 'model.data_preprocessor'
    text = (
        f'expected for the weights of {file!r} images as in their '
        f'distillation, {pixels["channel_order"]} with mean={pixels["mean"]} '
        f'and std={pixels["std"]}, got {found}; set in {place} '
        f'mean={pixels["mean"]}, std={pixels["std"]} and {conversion}, '
        'and nothing like Normalize in the pipeline, or, if it is intended, '
        'init_cfg.allow_changes=True'
    )
    if not allow_changes:
        raise ValueError(text)
    print_log(text, logger='current', level=logging.WARNING)


def _find_difference(pixels: dict, model: Any, dataset: Any) -> Any:
    """Return what the backbone gets instead, and the right conversion."""
    preprocessor, order = model.data_preprocessor, pixels['channel_order']
    mean, std = _normalization(preprocessor)
    device = getattr(preprocessor, 'device', 'cpu')
    # Undoes the normalization of the distillation.
    view = SimpleNamespace(
        channel_order=order,
        data_preprocessor=SimpleNamespace(
            forward=preprocessor.forward,
            _enable_normalize=True,
            mean=torch.tensor(pixels['mean'], device=device)[:, None, None],
            std=torch.tensor(pixels['std'], device=device)[:, None, None],
        ),
    )
    differs = not _is_proportional(pixels, mean, std)
    conversion = f'the channel conversion so that images are {order}'
    for name, found, reason in trace_parts(dataset, view):
        if not found:
            print_log(
                f'the images of {name} are not compared with those of the '
                f'distillation ({reason}), which were {order} with '
                f'mean={pixels["mean"]} and std={pixels["std"]}',
                logger='current',
                level=logging.WARNING,
            )
            continue
        loaded, outcome = found
        conversion = _name_conversion(preprocessor, loaded, order)
        if outcome == 'exchanged':
            other = 'bgr' if order == 'rgb' else 'rgb'
            return f'{other} with mean={mean} and std={std}', conversion
        if outcome not in ('right', 'unknown') and not differs:
            text = f'values of another range with mean={mean}, std={std}'
            return text, conversion
    return (f'mean={mean} and std={std}', conversion) if differs else None


def _normalization(preprocessor: Any) -> Tuple[List[float], List[float]]:
    """Return mean and std of the pixels; 0 and 1 if it does not normalize."""
    if not getattr(preprocessor, '_enable_normalize', False):
        return [0.0] * 3, [1.0] * 3
    values = (preprocessor.mean, preprocessor.std)
    mean, std = (
        [float(f'{i:.6g}') for i in value.flatten().tolist()]
        for value in values
    )
    return (mean * 3, std * 3) if len(mean) == 1 else (mean, std)


def _is_proportional(
    pixels: dict, mean: List[float], std: List[float]
) -> bool:
    """Return whether images in one range may be normalized equally.

    A pipeline may scale images to [0, 1], or normalize them itself; the color
    that is traced shows whether it does.
    """
    if not any(mean) and {*std} == {1.0}:
        return True
    if len(mean) != len(pixels['mean']):
        return False
    scale = pixels['std'][0] / std[0]
    return all(
        abs(a - scale * b) <= TOLERANCE * s
        and abs(s - scale * t) <= TOLERANCE * s
        for a, s, b, t in zip(pixels['mean'], pixels['std'], mean, std)
    )


def _name_conversion(preprocessor: Any, loaded: str, order: str) -> str:
    if hasattr(preprocessor, 'to_rgb'):
        return f'to_rgb={loaded != order}'
    if loaded == order:
        return 'bgr_to_rgb=False, rgb_to_bgr=False'
    return f'{loaded}_to_{order}=True'
