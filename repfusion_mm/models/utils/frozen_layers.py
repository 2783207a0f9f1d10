"""Find layers of a backbone that training does not change."""

from __future__ import annotations

from typing import Any, Iterator, List, Set, Tuple

import torch.nn as nn


def frozen_parameters(module: nn.Module) -> Set[str]:
    """Return the names of parameters without gradients in training mode."""
    _set_training(module)
    return {n for n, p in module.named_parameters() if not p.requires_grad}


def fixed_statistics(module: nn.Module) -> List[str]:
    """Return the names of batch norms in eval mode that have no statistics.

    They normalize with mean zero and variance one, their initial values.
    """
    _set_training(module)
    return [
        name
        for name, norm in _norms(module)
        if hasattr(norm, 'running_var')
        and not norm.training
        and _is_initial(norm)
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


def freezing_settings(module: nn.Module, path: str) -> str:
    """Return the arguments that freeze layers, with values that do not.

    Args:
        module: A backbone.
        path: Its place in the config, e.g. ``'model.student'``.
    """
    found = []
    for name, child in module.named_modules():
        place = f'{path}.{name}' if name else path
        for key, value in vars(child).items():
            if key == 'norm_eval' and value:
                found.append(f'{place}.norm_eval=False')
            elif key == 'norm_cfg' and isinstance(value, dict):
                if value.get('requires_grad') is False and not name:
                    found.append(f'{place}.norm_cfg.requires_grad=True')
            elif _freezes(key, value):
                off = False if isinstance(value, bool) else -1
                found.append(f'{place}.{key}={off}')
    return ' and '.join(found) or (
        f'the argument of {path} that sets requires_grad=False or eval mode'
    )


def _set_training(module: nn.Module) -> None:
    """Let backbones freeze what they freeze in ``train()``."""
    if module.training:
        module.train()


def _freezes(key: str, value: object) -> bool:
    if 'froze' not in key and 'freeze' not in key:
        return False
    if isinstance(value, bool):
        return value
    return isinstance(value, int) and value >= 0


def _norms(module: nn.Module) -> Iterator[Tuple[str, Any]]:
    for name, child in module.named_modules():
        if getattr(child, 'running_var', None) is not None or isinstance(
            child, (nn.LayerNorm, nn.GroupNorm)
        ):
            yield name, child


def _is_initial(norm: Any) -> bool:
    mean = getattr(norm, 'running_mean', None)
    if mean is not None:
        return bool((mean == 0).all() and (norm.running_var == 1).all())
    if norm.weight is None:
        return True
    constant = bool((norm.weight == norm.weight.flatten()[0]).all())
    return constant and (norm.bias is None or not norm.bias.any())
