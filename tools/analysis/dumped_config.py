"""Read the config that mmengine wrote of a run, without running it."""

import ast
import math
from pathlib import Path

NUMBERS = dict(inf=math.inf, nan=math.nan)


def read_dumped_config(path: Path) -> dict:
    """Read what ``Config.dump`` wrote: names, literals and ``dict(...)``.

    A folder of runs may come from somebody else. What is more than that is
    not what mmengine wrote, and is not run.

    Raises:
        ValueError: There is more in it, or it is not Python.
    """
    line = 1
    try:
        settings = {}
        for node in ast.parse(path.read_text()).body:
            line = node.lineno
            if not isinstance(node, ast.Assign):
                raise ValueError(f'a {type(node).__name__.lower()}')
            (target,) = node.targets
            settings[ast.unparse(target)] = _value(node.value)
        return settings
    except (SyntaxError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            f'expected a config as mmengine writes it in {path}, got {error} '
            f'at line {line}; give a folder that was --work-dir, without '
            'other .py files'
        ) from error


def _value(node: ast.expr) -> object:
    if isinstance(node, ast.Call) and ast.unparse(node.func) == 'dict':
        if node.args or any(word.arg is None for word in node.keywords):
            raise ValueError(ast.unparse(node)[:80])
        return {word.arg: _value(word.value) for word in node.keywords}
    if isinstance(node, ast.Dict) and None not in node.keys:
        keys = [_value(key) for key in node.keys]
        return dict(zip(keys, map(_value, node.values)))
    if isinstance(node, (ast.List, ast.Tuple)):
        items = [_value(item) for item in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)
    if isinstance(node, ast.Name) and node.id in NUMBERS:
        return NUMBERS[node.id]
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ValueError(ast.unparse(node)[:80]) from None
