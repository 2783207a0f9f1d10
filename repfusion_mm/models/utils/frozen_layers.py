"""Find layers of a backbone that training does not change."""

from __future__ import annotations

import copy
import inspect
from typing import Any, Dict, Iterator, List, Set, Tuple

import torch
import torch.nn as nn

from repfusion_mm.registry import MODELS
from repfusion_mm.utils.types import resolve_type


def frozen_parameters(module: nn.Module) -> Set[str]:
    """Return the names of parameters without gradients in training mode."""
    _set_training(module)
    return {n for n, p in module.named_parameters() if not p.requires_grad}


def fixed_statistics(module: nn.Module) -> List[str]:
    """Return the names of batch norms whose statistics stay initial values.

    These are mean zero and variance one. The layers are in eval mode and have
    no other statistics, or have momentum 0.
    """
    layers = dict(module.named_modules())
    return [n for n in constant_statistics(module) if _is_initial(layers[n])]


def constant_statistics(module: nn.Module) -> List[str]:
    """Return the names of batch norms in eval mode, or of momentum 0."""
    _set_training(module)
    return [
        name
        for name, norm in _norms(module)
        if hasattr(norm, 'running_var')
        and (not norm.training or getattr(norm, 'momentum', None) == 0)
    ]


def is_random(module: nn.Module) -> bool:
    """Return whether a module holds random weights, of no file.

    This is a heuristic. All its normalization layers have their initial
    values, or, without any, no ``init_cfg`` names a checkpoint. One layer of
    random weights among others that are loaded is not found.
    """
    norms = [norm for _, norm in _norms(module)]
    if norms:
        return all(map(_is_initial, norms))
    configs = [getattr(i, 'init_cfg', None) for i in module.modules()]
    return "'Pretrained'" not in str(configs)


def freezing_settings(config: Any, path: str) -> str:
    """Return advice with the arguments that freeze layers.

    A backbone is built with each value, until no layer is frozen.

    Args:
        config: The config of a backbone.
        path: Its place in the config of a run, e.g. ``'model.student'``.
    """
    cls = resolve_type(config, MODELS)
    found = []
    with torch.random.fork_rng(devices=[]):
        frozen, size = _count(config) if isinstance(cls, type) else (0, 0)
        for setting, change in _changes(config, cls) if frozen else ():
            count, same = _count({**config, **change})
            if count < frozen and same == size:
                config, frozen = {**config, **change}, count
                found.append(f'{path}.{setting}')
            if not frozen:
                break
    if found:
        return f'set {" and ".join(found)}'
    return f'no argument of {path} trains them: change what freezes them'


def _changes(config: dict, cls: Any) -> List[Tuple[str, dict]]:
    """Return other values of arguments, first of those that freeze layers."""
    arguments: Dict[str, Any] = {
        parameter.name: parameter.default
        for base in reversed(cls.__mro__[:-1])
        for parameter in inspect.signature(base.__init__).parameters.values()
    }
    changes = []
    for key, value in {**arguments, **config}.items():
        changes += [(f'{key}={i}', {key: i}) for i in _others(value)]
        for inner, leaf in value.items() if isinstance(value, dict) else ():
            changes += [
                (f'{key}.{inner}={other}', {key: {**value, inner: other}})
                for other in _others(leaf)
            ]
    words = ('froz', 'freez', 'eval', 'grad')
    return sorted(changes, key=lambda i: not any(w in i[0] for w in words))


def _others(value: object) -> list:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, float) and value == 0:  # a momentum
        return [0.1]
    return [i for i in (-1, 0) if isinstance(value, int) and i < value]


def _count(config: dict) -> Tuple[int, int]:
    """Return how many layers of a backbone are frozen, and its tensors."""
    try:
        module = MODELS.build(copy.deepcopy(config))
        frozen = len(frozen_parameters(module) | {*fixed_statistics(module)})
        return frozen, len(module.state_dict())
    except Exception:  # whatever a backbone raises for a value
        return 0, 0


def _set_training(module: nn.Module) -> None:
    """Let backbones freeze what they freeze in ``train()``."""
    if module.training:
        module.train()


def _norms(module: nn.Module) -> Iterator[Tuple[str, Any]]:
    for name, child in module.named_modules():
        if getattr(child, 'running_var', None) is not None or isinstance(
            child, (nn.LayerNorm, nn.GroupNorm)
        ):
            yield name, child


def _is_initial(norm: Any) -> bool:
    """Return whether the values of a norm are those of a new one.

    Statistics alone do not tell: Detectron's weights contain them in weight
    and bias.
    """
    mean = getattr(norm, 'running_mean', None)
    if mean is not None and (mean.any() or (norm.running_var != 1).any()):
        return False
    if norm.weight is None:
        return True
    constant = bool((norm.weight == norm.weight.flatten()[0]).all())
    return constant and (norm.bias is None or not norm.bias.any())
