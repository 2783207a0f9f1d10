"""Read a config that mmengine dumped, without executing it.

Work directories may come from other people.
"""

import ast
from pathlib import Path
from typing import Any, Dict


def read_dumped_config(path: Path) -> Dict[str, object]:
    """Parse assignments of literals and ``dict(...)`` calls.

    Raises:
        ValueError: The file is not Python or holds other syntax.
    """
    line = 1
    settings: Dict[str, object] = {}
    try:
        for node in ast.parse(path.read_text(encoding='utf-8')).body:
            line = node.lineno
            if not isinstance(node, ast.Assign):
                raise ValueError(f'a {type(node).__name__.lower()}')
            (target,) = node.targets
            if not isinstance(target, ast.Name):
                raise ValueError(f'a {type(target).__name__.lower()}')
            settings[target.id] = _value(node.value)
        return settings
    except (SyntaxError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            f'expected a config written by mmengine in {path}, got {error} '
            f'at line {line}; give the --work-dir of a run, without other '
            '.py files'
        ) from error


def _value(node: ast.expr) -> object:
    if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'dict':
        # mmengine writes dict({...}) if a key is not an identifier.
        keywords: Dict[Any, object]
        keywords = {word.arg: _value(word.value) for word in node.keywords}
        return dict(*map(_value, node.args), **keywords)
    if isinstance(node, ast.Dict) and None not in node.keys:
        keys = [_value(key) for key in node.keys if key is not None]
        return dict(zip(keys, map(_value, node.values)))
    if isinstance(node, (ast.List, ast.Tuple)):
        items = [_value(item) for item in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)
    if isinstance(node, ast.Name) and node.id in ('inf', 'nan'):
        return float(node.id)
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ValueError(f'a {type(node).__name__.lower()}') from None
