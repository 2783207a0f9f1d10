"""Classes that configs name."""

from __future__ import annotations

import inspect
from typing import Any, Optional, Set

from mmengine.registry import Registry


def resolve_type(
    config: object, registry: Registry, scope: Optional[str] = None
) -> Any:
    """Return the class of ``config['type']``, None if there is none.

    A type may be a class, a name with or without its scope, or an import
    path, as in the configs that mmengine dumps of pure Python ones.

    Args:
        config: A config with a ``type``.
        registry: Where its name is registered.
        scope: ``default_scope`` of the run, for names without a scope.
    """
    found = config.get('type') if isinstance(config, dict) else None
    if isinstance(found, str):
        try:
            with registry.switch_scope_and_registry(scope) as current:
                return current.get(found)
        except (ImportError, KeyError, AttributeError):
            return None
    return found


def is_type(
    config: object,
    kind: type,
    registry: Registry,
    scope: Optional[str] = None,
) -> bool:
    """Return whether a config names a class, or a subclass of it."""
    found = resolve_type(config, registry, scope)
    return isinstance(found, type) and issubclass(found, kind)


def init_arguments(cls: Any) -> Set[str]:
    """Return the arguments of a class and its bases, without ``self``.

    ``args`` and ``kwargs`` are not contained, as no config sets them.
    """
    names = {
        name
        for base in cls.__mro__[:-1]
        for name in inspect.signature(base.__init__).parameters
    }
    return names - {'self', 'args', 'kwargs'}
