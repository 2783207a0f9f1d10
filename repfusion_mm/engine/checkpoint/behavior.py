"""Compare the outputs of two backbones with the same weights.

The shapes of weights do not depend on strides, upsampling, padding,
activations or the eps of normalization layers.
"""

from __future__ import annotations

import itertools
import logging
from types import FunctionType
from typing import Any, Dict, List, Optional, Sequence, Union

import torch
import torch.nn as nn
from mmengine.logging import print_log
from mmengine.utils import to_2tuple

from repfusion_mm.engine.utils import copy_to_cpu

#: Largest relative difference of outputs. Other memory formats and CPUs cause
#: about 1e-5.
TOLERANCE = 1e-4
#: Number of values of each output that are stored.
NUM_VALUES = 1000
#: Settings that do not change what a trained network computes.
IRRELEVANT = {
    'drop_path_rate', 'drop_prob', 'drop_rate', 'frozen_stages', 'inplace',
    'momentum', 'norm_eval', 'out_indices', 'with_cp',
}  # fmt: skip
#: Settings that must agree even if the outputs cannot be compared, as those of
#: a dilated, truncated or larger backbone.
DEFINING = {
    'align_corners', 'ceil_mode', 'eps', 'groups', 'mode', 'negative_slope',
    'num_heads', 'p', 'padding_mode', 'style', 'type',
}  # fmt: skip
#: Kinds of layers that may be replaced: in eval mode, the result is the same.
EXCHANGEABLE = ('Norm', 'Drop', 'Identity')


def describe_behavior(
    module: nn.Module,
    weights: Dict[str, torch.Tensor],
    size: Union[int, Sequence[int]],
) -> Dict[str, Any]:
    """Return a backbone's outputs for two fixed images, and its settings.

    Args:
        module: The backbone. It is not changed.
        weights: Its weights.
        size: Side of the images, or height and width.
    """
    return dict(
        size=size,
        outputs=_outputs(module, weights, size),
        settings=_settings(module),
    )


def find_changes(
    recorded: Dict[str, Any],
    module: nn.Module,
    weights: Dict[str, torch.Tensor],
    complete: bool = True,
) -> List[str]:
    """List differences between a backbone and the recorded one.

    Outputs of the same shape are compared. The deeper outputs of a dilated
    network have other shapes and are ignored. If several have the same shape,
    as in a transformer, one pair must agree. If no outputs can be compared, a
    warning is logged and the settings of layers are compared. Settings that
    differ although outputs agree are logged: other sizes of images or other
    weights may show them.

    Args:
        recorded: What ``describe_behavior`` returned.
        module: The backbone.
        weights: Its weights.
        complete: Whether these are all weights of both backbones, unchanged.

    Returns:
        Outputs that differ and changed settings, empty if nothing differs.
    """
    before = recorded['outputs'] if complete else None
    after = _outputs(module, weights, recorded['size']) if before else None
    differences: Dict[tuple, List[float]] = {}
    for ours, theirs in itertools.product(before or [], after or []):
        if ours['shape'] == theirs['shape']:
            differences.setdefault(tuple(ours['shape']), []).append(
                _difference(ours['values'], theirs['values'])
            )
    settings = _settings(module)
    defining = _changed_settings(
        _defining(recorded['settings']), _defining(settings)
    )
    if not differences:
        reason = 'no shape is the same' if complete else 'weights differ'
        print_log(
            f'{type(module).__name__}: outputs are not compared with the '
            f"student's ({reason}), only settings such as eps, activations "
            'and upsampling',
            logger='current',
            level=logging.WARNING,
        )
        return defining
    changed = [
        f'output {shape}: differs by {_percent(min(found))}'
        for shape, found in differences.items()
        if not min(found) <= TOLERANCE
    ]
    if changed:
        return changed + _changed_settings(recorded['settings'], settings)
    if defining:
        print_log(
            f'{type(module).__name__}: outputs agree, but settings differ, '
            f'which other inputs may show: {"; ".join(defining)}',
            logger='current',
            level=logging.WARNING,
        )
    return []


def _outputs(
    module: nn.Module,
    weights: Dict[str, torch.Tensor],
    size: Union[int, Sequence[int]],
) -> Optional[List[dict]]:
    """Return shape and some values of each output, None if it fails."""
    height, width = to_2tuple(size)
    count = torch.arange(3 * height * width, dtype=torch.float64)
    image = torch.sin(count * count % 1013).float().view(3, height, width)
    # The second image reaches the bounds of activations such as ReLU6.
    images = torch.stack([2 * image, 100 * image])
    try:
        # On the CPU, so that the results do not depend on a GPU.
        net = copy_to_cpu(module).float()
        for child in net.modules():
            # mmengine's activation checkpointing replaces forward by a
            # function, which is not copied: it would run the original module.
            if isinstance(vars(child).get('forward'), FunctionType):
                del child.forward
        net.load_state_dict(weights, strict=False)
        # After loading, because some attentions of mmpretrain compute their
        # biases from the weights here. It returns None in mmpretrain.
        net.eval()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            outputs = net(images)
    except Exception as error:  # any error of a backbone of another library
        print_log(
            f'{type(module).__name__}: outputs are not compared ({error})',
            logger='current',
            level=logging.WARNING,
        )
        return None
    if torch.is_tensor(outputs):
        outputs = (outputs,)
    found = []
    for output in outputs:
        if torch.is_tensor(output):
            values = output.flatten(1)
            step = max(1, values.shape[1] // NUM_VALUES)
            kept = values[:, ::step].clone()
            found.append(dict(shape=list(output.shape), values=kept))
    return found


def _difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    # Values that overflow in the same way are equal.
    same = (ours == theirs) | (ours.isnan() & theirs.isnan())
    error = (ours - theirs).masked_fill(same, 0).norm(dim=1)
    norms = ours.nan_to_num(0, 0, 0).norm(dim=1)
    return (error / norms.clamp(min=torch.finfo().tiny)).max().item()


def _percent(share: float) -> str:
    return f'{100 * share:.2g}%' if share < 10 else f'a factor of {share:.2g}'


def _settings(module: nn.Module) -> Dict[str, Dict[str, Any]]:
    """Return the public attributes with plain values of all modules."""
    settings = {}
    for name, child in module.named_modules():
        kind = type(child).__name__
        found = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in vars(child).items()
            if not key.startswith('_') and key != 'training' and _plain(value)
        }
        if not list(child.children()):
            found['type'] = kind
        if 'Drop' in kind:
            found.pop('p', None)  # only used in training
        settings[name] = found
    return settings


def _plain(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_plain, value))
    return type(value) in (bool, int, float, str, type(None))


def _defining(settings: Dict[str, Dict[str, Any]]) -> dict:
    """Select the settings in ``DEFINING``."""
    return {
        name: {
            key: value
            for key, value in found.items()
            if key in DEFINING
            # Only bottlenecks, which have two strides, depend on their style.
            and (key != 'style' or 'conv1_stride' in found)
            and not (key == 'type' and any(i in value for i in EXCHANGEABLE))
        }
        for name, found in settings.items()
    }


def _changed_settings(before: dict, after: dict) -> List[str]:
    """List the settings that differ in layers of the same name."""
    layers: Dict[str, List[str]] = {}
    for name in before.keys() & after.keys():
        for key in before[name].keys() & after[name].keys():
            ours, theirs = before[name][key], after[name][key]
            if ours != theirs and key not in IRRELEVANT:
                change = f'{key}: distilled with {ours!r}, got {theirs!r}'
                layers.setdefault(change, []).append(name)
    return [
        f'{change} in {len(names)} layers ({min(names) or "backbone"} ...)'
        for change, names in sorted(layers.items())
    ]
