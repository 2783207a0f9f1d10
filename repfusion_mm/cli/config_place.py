"""Find the settings that an error is about."""

from __future__ import annotations

import socket
import traceback
from types import FrameType
from typing import Any, Iterator, List, Optional, Tuple
from urllib.error import URLError

from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.runner import Runner

from repfusion_mm.engine.settings import find_typo
from repfusion_mm.engine.settings.names import SETTINGS
from repfusion_mm.utils.types import init_arguments, resolve_type

#: What is raised, or is the cause, where a network cannot be used.
NETWORK_ERRORS = (URLError, ConnectionError, TimeoutError, socket.gaierror)


def find_place(error: BaseException) -> str:
    """Return which settings were in use when an error was raised, and a hint.

    These are the part of the config that equals an argument of the innermost
    function, for example ``cfg`` of mmengine's builders. The result is empty
    where there is none, or where the error itself names a part of the config.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    root = next(filter(None, map(_find_config, frames)), None)
    if root is None:
        return ''
    subtrees = [
        subtree
        for key in root
        if key in SETTINGS
        for subtree in _iter_dicts(root[key], key)
    ]
    if any('.' in path and path in str(error) for path, _ in subtrees):
        return ''
    for frame in reversed(frames):
        arguments = _arguments_of(frame)
        given = [value for value in arguments if isinstance(value, dict)]
        found = [best for best in (_match(subtrees, g) for g in given) if best]
        if len(found) == 1:
            place, config = found[0]
            registries = [a for a in arguments if isinstance(a, Registry)]
            hint = _suggest(error, config, registries, root)
            hint = hint or _suggest_download(error, config, registries)
            return f'in {place}{hint or _show(config)}'
    return ''


def _find_config(frame: FrameType) -> Optional[Config]:
    for value in frame.f_locals.values():
        if isinstance(value, Runner):
            return value.cfg
        if isinstance(value, Config):
            return value
    return None


def _arguments_of(frame: FrameType) -> List[Any]:
    code = frame.f_code
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return [frame.f_locals.get(name) for name in names]


def _iter_dicts(value: Any, path: str) -> Iterator[Tuple[str, dict]]:
    items: List[tuple] = []
    if isinstance(value, dict):
        if value:
            yield path, value
        items = list(value.items())
    elif isinstance(value, (list, tuple)):
        items = list(enumerate(value))
    for key, item in items:
        yield from _iter_dicts(item, f'{path}.{key}')


def _match(
    subtrees: List[Tuple[str, dict]], given: dict
) -> Optional[Tuple[str, dict]]:
    """Return the largest part of the config that ``given`` contains.

    Builders add arguments, such as the parameters of an optimizer.
    """
    found = [
        (path, config)
        for path, config in subtrees
        if _contains(given, config)
        and ('type' in config or len(config) == len(given))
    ]
    return max(found, key=lambda item: len(item[1]), default=None)


def _contains(given: dict, config: dict) -> bool:
    try:
        return all(
            key in given and bool(given[key] == value)
            for key, value in config.items()
        )
    except (RuntimeError, ValueError):  # arrays are not compared
        return False


def _show(config: dict) -> str:
    """Return the settings of a part that has no parts itself."""
    if any(isinstance(value, (dict, list)) for value in config.values()):
        return ''
    return f'={dict(config)}'[:200]


def _suggest_download(
    error: BaseException, config: dict, registries: List[Registry]
) -> str:
    """Return how to provide a dataset that could not be downloaded."""
    root = config.get('data_root') or config.get('data_prefix')
    cause: Optional[BaseException] = error
    while cause is not None and not isinstance(cause, NETWORK_ERRORS):
        cause = cause.__cause__ or cause.__context__
    if cause is None or not isinstance(root, str) or '://' in root:
        return ''
    cls = resolve_type(config, registries[0]) if registries else None
    url = getattr(cls, 'url', None)
    if isinstance(url, str):
        advice = f'download {url} on a machine with a network, and put it'
    else:
        advice = 'run this command on a machine with a network, and copy it'
    return (
        f'; the data is not in {root!r} and could not be downloaded: '
        f'{advice} there'
    )


def _suggest(
    error: BaseException,
    config: dict,
    registries: List[Registry],
    root: Config,
) -> str:
    """Return near names for a type or a key that does not exist."""
    kind = config.get('type')
    if not registries or not isinstance(error, (KeyError, TypeError)):
        return ''
    default = root.get('default_scope')
    cls = resolve_type(config, registries[0], default)
    if cls is None and isinstance(kind, str):
        scope, _, name = kind.rpartition('.')
        if not scope:
            scoped = _find_scoped(registries[0].root, name)
            if scoped:
                return f'.type; did you mean {_show_scoped(scoped)}?'
        names: List[str] = []
        with registries[0].switch_scope_and_registry(
            scope or default
        ) as known:
            while known is not None:
                names += known.module_dict
                known = known.parent
        near = find_typo(name, names)
        return f'.type; did you mean {near!r}?' if near else '.type'
    if not isinstance(cls, type):
        return ''
    arguments = init_arguments(cls)
    for key in config:
        if key not in arguments and repr(key) in str(error):
            near = find_typo(key, arguments)
            scoped = [
                (name, other)
                for name, other in _find_scoped(registries[0].root, str(kind))
                if key in init_arguments(other)
            ]
            if scoped and not near:
                return f'.{key}; did you mean type={_show_scoped(scoped)}?'
            options = ', '.join(sorted(arguments))
            return f'.{key}; ' + (
                f'did you mean {near!r}?'
                if near
                else f'expected {options}; if the key is of another type in '
                'the base config, add _delete_=True'
            )
    return ''


def _find_scoped(registry: Registry, name: str) -> List[Tuple[str, Any]]:
    """Return the types of a name in the child registries, with scopes."""
    found = []
    for scope, child in registry.children.items():
        scoped = f'{scope}.{name}'
        cls = resolve_type(dict(type=scoped), registry)
        if cls in child.module_dict.values():
            found.append((scoped, cls))
    return found


def _show_scoped(scoped: List[Tuple[str, Any]]) -> str:
    """Return names with scopes, and the scopes that stand for them."""
    names = [name for name, _ in scoped]
    scopes = [name.partition('.')[0] for name in names]
    # Most types of a pipeline are of a project, not of this package.
    scopes = [repr(scope) for scope in scopes if scope != 'repfusion_mm']
    text = ' or '.join(map(repr, names))
    if scopes:
        text += f', or default_scope={" or ".join(scopes)} '
        text += 'for types without a scope'
    return text
