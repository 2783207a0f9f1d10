"""Compare what backbones of equal weights compute.

Shapes of weights do not show strides, upsampling, padding, activations or the
eps of normalization layers.
"""

from __future__ import annotations

import copy
import logging
from typing import Any, Dict, List, Optional

import torch
import torch.nn as nn
from mmengine.logging import print_log

#: Relative difference of outputs; other memory formats and CPUs give 1e-5.
TOLERANCE = 1e-4
#: Values that are kept of each output.
NUM_VALUES = 1000


def describe_behavior(
    module: nn.Module, weights: Dict[str, torch.Tensor], size: int
) -> Dict[str, Any]:
    """Return a backbone's outputs for two fixed images, and its settings.

    Args:
        module: The backbone. It is not changed.
        weights: Its weights.
        size: Side of the images.
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
) -> List[str]:
    """List why a backbone does not compute what the recorded one does.

    Outputs of the same shape are compared; the deeper outputs of a dilated
    network have other shapes. If several have one shape, as those of a
    transformer, one pair must agree.

    Returns:
        Changed settings; an empty list if the outputs agree, or none can be
        compared.
    """
    before = recorded['outputs']
    after = _outputs(module, weights, recorded['size'])
    if not before or not after:
        return []
    differences: Dict[tuple, List[float]] = {}
    for ours in before:
        for theirs in after:
            if ours['shape'] == theirs['shape']:
                difference = _difference(ours['values'], theirs['values'])
                key = tuple(ours['shape'])
                differences.setdefault(key, []).append(difference)
    changed = [
        f'output {shape}: differs by {min(found):.1%}'
        for shape, found in differences.items()
        if not min(found) <= TOLERANCE
    ]
    if not changed:
        return []
    return changed + _changed_settings(recorded['settings'], _settings(module))


def _outputs(
    module: nn.Module, weights: Dict[str, torch.Tensor], size: int
) -> Optional[List[dict]]:
    """Return shape and some values of each output, or None without any."""
    count = torch.arange(3 * size * size, dtype=torch.float64)
    image = torch.sin(count * count % 1013).float().view(3, size, size)
    # The second one reaches the bounds of activations such as ReLU6.
    images = torch.stack([2 * image, 100 * image])
    try:
        # On a CPU, so that the results do not depend on the machine's GPU.
        net = copy.deepcopy(module).cpu().float()
        net.eval()  # returns None in mmpretrain
        net.load_state_dict(weights, strict=False)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
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
    norms = ours.norm(dim=1).clamp(min=torch.finfo(torch.float32).tiny)
    return ((ours - theirs).norm(dim=1) / norms).max().item()


def _settings(module: nn.Module) -> Dict[str, Dict[str, Any]]:
    """Return the public attributes with plain values of all modules."""
    settings = {}
    for name, child in module.named_modules():
        found = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in vars(child).items()
            if not key.startswith('_') and key != 'training' and _plain(value)
        }
        if not list(child.children()):
            found['type'] = type(child).__name__
        settings[name] = found
    return settings


def _plain(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_plain, value))
    return type(value) in (bool, int, float, str, type(None))


def _changed_settings(before: dict, after: dict) -> List[str]:
    """List settings that differ in layers of the same name, by kind."""
    layers: Dict[str, List[str]] = {}
    for name in before.keys() & after.keys():
        for key in before[name].keys() & after[name].keys():
            ours, theirs = before[name][key], after[name][key]
            if ours != theirs:
                change = f'{key}: distilled with {ours!r}, got {theirs!r}'
                layers.setdefault(change, []).append(name)
    return [
        f'{change} in {len(names)} layers ({min(names) or "backbone"} ...)'
        for change, names in sorted(layers.items())
    ]
