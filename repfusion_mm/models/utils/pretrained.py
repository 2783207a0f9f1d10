"""Check that mmengine's 'Pretrained' initializer loads completely."""

from __future__ import annotations

import copy
from typing import Any, Dict, Iterator, List, Tuple

import torch
import torch.nn as nn
from mmengine.model import BaseModule
from mmengine.model.weight_init import PretrainedInit
from mmengine.registry import WEIGHT_INITIALIZERS

from repfusion_mm.utils.types import is_type


class PretrainedCheck:
    """Compare weights with those of a copy initialized with another seed.

    Before initialization, all weights of the copy are NaN, except those that
    it shares with the module. Tensors that are loaded from a file are equal in
    the module and in the copy, independently of the file's keys and of
    conversions. Others differ because they are random, or NaN in the copy
    because initialization does not set them, such as the constants of
    normalization layers. Constant tensors, such as those of new normalization
    layers, may be missing in a file, and of its unused tensors, only weights
    (``*.weight``) are refused.

    Args:
        module: A module of mmengine before its ``init_weights``.
        shared: An object that the copy shares with the module.
    """

    def __init__(self, module: BaseModule, shared: object) -> None:
        #: Checkpoints by the names of the submodules that load them.
        self.files = dict(stock_checkpoints(module))
        self.unused: Dict[str, List[str]] = {}
        self.weights: Dict[str, torch.Tensor] = {}
        if self.files:
            memo = {id(shared): shared}
            net = copy.deepcopy(module, memo)
            # Of teachers and normalizers, a copy is the original.
            used = {v.data_ptr() for v in module.state_dict().values()}
            for value in net.state_dict().values():
                if value.is_floating_point() and value.data_ptr() not in used:
                    value.fill_(torch.nan)
            self._initialize(net)

    def _initialize(self, module: BaseModule) -> None:
        parts = dict(module.named_modules())
        for name in self.files:
            parts[name].register_load_state_dict_post_hook(
                lambda part, keys, name=name: self.unused.update(
                    {name: _unused(part, keys.unexpected_keys)}
                )
            )
        has_gpu = torch.cuda.is_available()
        devices = [torch.cuda.current_device()] if has_gpu else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(torch.initial_seed() + 1)
            BaseModule.init_weights(module)
        self.weights = module.state_dict()

    def check(self, module: nn.Module, path: str) -> None:
        """Refuse random weights where a checkpoint should be loaded.

        Args:
            module: The module after its ``init_weights``.
            path: Its place in the config, e.g. ``'model'``.

        Raises:
            ValueError: Tensors are not loaded, or weights of a file unused.
        """
        for name, file in self.files.items():
            part = module.get_submodule(name)
            weights = {
                key: value
                for key, value in part.state_dict().items()
                if value.is_floating_point() and value.numel()
            }
            prefix = f'{name}.' if name else ''
            missing = [
                key
                for key, value in weights.items()
                if not torch.equal(value, self.weights[prefix + key])
                and not bool((value == value.flatten()[0]).all())
            ]
            unused = self.unused.get(name, [])
            if missing or unused:
                place = f'{path}.{prefix}init_cfg'
                raise ValueError(
                    f'expected {file!r} to contain the weights of '
                    f'{type(part).__name__}, got {len(missing)} of '
                    f'{len(weights)} tensors that are not loaded and '
                    f'{len(unused)} that only the file has '
                    f'({(missing + unused)[0]} ...); correct '
                    f"{place}.prefix, or set {place}._scope_='repfusion_mm', "
                    'which finds the prefix and reads allow_missing and '
                    'allow_unused (lists of patterns, such as fc.* for the '
                    'head of a classifier)'
                )


def stock_checkpoints(module: nn.Module) -> Iterator[Tuple[str, str]]:
    """Yield the submodules with mmengine's initializer, and their files."""
    for name, child in module.named_modules():
        configs: Any = getattr(child, 'init_cfg', None) or []
        if getattr(child, 'is_init', False):
            continue
        is_list = isinstance(configs, (list, tuple))
        for config in configs if is_list else [configs]:
            scope = config.get('_scope_')
            if is_type(config, PretrainedInit, WEIGHT_INITIALIZERS, scope):
                yield name, config['checkpoint']


def _unused(module: nn.Module, keys: List[str]) -> List[str]:
    """Return the weights in a file that are unused by a module's children.

    Keys outside its children, such as those of a head, are left out.
    """
    parts = dict(module.named_children())
    return [
        key
        for key in keys
        if key.endswith('.weight') and key.split('.')[0] in parts
    ]
