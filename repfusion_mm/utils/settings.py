"""Nested settings of a config."""

from __future__ import annotations

from typing import Dict


def flatten_settings(value: object, prefix: str = '') -> Dict[str, str]:
    """Return nested settings as ``{'a.b.0': 'value'}``.

    Lists are flattened only if they hold dicts.
    """
    items: list
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, (list, tuple)) and any(
        isinstance(item, dict) for item in value
    ):
        items = list(enumerate(value))
    else:
        return {prefix: str(value)}
    flat: Dict[str, str] = {}
    for key, item in items:
        name = f'{prefix}.{key}' if prefix else str(key)
        flat.update(flatten_settings(item, name))
    return flat
