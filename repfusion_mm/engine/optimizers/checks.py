"""Refuse settings of an optimizer that nothing would read."""

from __future__ import annotations

import inspect
import logging
from typing import Any, Iterable, Iterator, Set

import torch.nn as nn
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import OPTIM_WRAPPERS

from repfusion_mm.utils.types import init_arguments


class ReadKeys(dict):
    """``paramwise_cfg`` that records which keys are read.

    mmengine's constructors silently ignore all keys that they do not know. A
    constructor that iterates over the keys reads them all.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.read: Set[str] = set()

    def __deepcopy__(self, memo: dict) -> ReadKeys:
        # mmengine copies its config, and reads the keys of the copy.
        return self

    def __contains__(self, key: object) -> bool:
        self.read.add(str(key))
        return super().__contains__(key)

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value, and record its key."""
        self.read.add(key)
        return super().get(key, default)

    def pop(self, key: str, *default: Any) -> Any:
        """Remove and return a value, and record its key."""
        self.read.add(key)
        return super().pop(key, *default)

    def __iter__(self) -> Iterator[str]:
        self.read.update(super().keys())
        return super().__iter__()

    def keys(self) -> Any:
        """Return the keys, and record them."""
        self.read.update(super().keys())
        return super().keys()

    def items(self) -> Any:
        """Return keys and values, and record the keys."""
        self.read.update(super().keys())
        return super().items()

    def check(self) -> None:
        """Refuse keys that were not read.

        Raises:
            ValueError: A key was not read.
        """
        unread = sorted(super().keys() - self.read)
        if unread:
            raise ValueError(
                f'expected keys of paramwise_cfg among {sorted(self.read)}, '
                f'got {unread}, which the constructor of the optimizer does '
                'not read; correct their names, or leave them out'
            )


def check_paramwise(config: dict, model: nn.Module) -> None:
    """Log keys of ``paramwise_cfg`` that have no effect.

    They are not refused, because configs of OpenMMLab projects contain keys of
    other backbones.

    Args:
        config: The ``optim_wrapper`` of a model with one optimizer.
        model: The model.
    """
    read = ReadKeys(config.get('paramwise_cfg') or {})
    own = {k: config[k] for k in ('constructor', 'optimizer') if k in config}
    try:
        build_optim_wrapper(nn.Linear(1, 1), {**own, 'paramwise_cfg': read})
    except Exception:  # constructors for certain backbones refuse a layer
        read.read.update(read)
    try:
        read.check()
        check_custom_keys(read, [model], 'optim_wrapper')
    except ValueError as error:
        print_log(str(error), logger='current', level=logging.WARNING)


def check_custom_keys(
    paramwise_cfg: dict, modules: Iterable[nn.Module], place: str
) -> None:
    """Refuse ``custom_keys`` if no key is part of a parameter's name.

    If only some keys match no parameter, they are logged: configs list keys of
    several variants of a network.

    Raises:
        ValueError: No key is in the name of a parameter of ``modules``.
    """
    keys = set(paramwise_cfg.get('custom_keys') or {})
    names = [
        f'.{name}'
        for module in modules
        for name, _ in module.named_parameters()
    ]
    unused = {key for key in keys if not any(key in name for name in names)}
    if not unused:
        return
    text = (
        f'expected {place}.paramwise_cfg.custom_keys that are in the name of '
        f'a parameter such as {names[0][1:]!r}, got {sorted(unused)}, which '
        'change nothing; correct them'
    )
    if unused == keys:
        raise ValueError(text)
    print_log(text, logger='current', level=logging.WARNING)


def check_clip_grad(wrapper: OptimWrapper) -> None:
    """Refuse invalid arguments of gradient clipping.

    Raises:
        TypeError: PyTorch's function does not accept them.
    """
    if wrapper.clip_grad_kwargs:
        function = inspect.signature(wrapper.clip_func)
        try:
            function.bind([], **wrapper.clip_grad_kwargs)
        except TypeError as error:
            raise TypeError(
                f'{error} in clip_grad={wrapper.clip_grad_kwargs}'
            ) from error


def wrapper_arguments(kind: Any) -> Set[str]:
    """Return the keys of an ``optim_wrapper`` config, except ``optimizer``.

    Args:
        kind: The class of the optimizer wrapper, or its name.

    Raises:
        ValueError: There is no such class.
    """
    cls = kind
    if isinstance(kind, str):
        with OPTIM_WRAPPERS.switch_scope_and_registry(None) as registry:
            cls = registry.get(kind)
    if cls is None:
        raise ValueError(
            f'expected optim_wrapper.type to be an optimizer wrapper such as '
            f"'OptimWrapper' or 'AmpOptimWrapper', got {kind!r}; correct it"
        )
    return (init_arguments(cls) | {'type'}) - {'optimizer'}
