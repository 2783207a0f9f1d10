"""The list of private members is complete, and each of them exists."""

import ast
import importlib
import inspect
from pathlib import Path

import pytest

import repfusion_mm
from repfusion_mm.utils.private_api import PRIVATE_MEMBERS

PACKAGE = Path(repfusion_mm.__file__).parent
#: Documented, in spite of their names.
PUBLIC = {'_fields', '_exit', '_asdict', '_replace'}


def resolve(path):
    """Return the object that holds a member, and the member's name."""
    owner, name = path.rsplit('.', 1)
    parts = owner.split('.')
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module('.'.join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found, name
    raise ModuleNotFoundError(owner)


@pytest.mark.parametrize('path', PRIVATE_MEMBERS)
def test_private_members_exist_upstream(path):
    owner, name = resolve(path)
    if hasattr(owner, name):
        return
    # An attribute of instances.
    sources = [inspect.getsource(cls) for cls in owner.__mro__[:-1]]
    assert any(f'self.{name}' in source for source in sources)


def is_private(name):
    return name.startswith('_') and not name.startswith('__')


def find_private_names(tree):
    """Return the private names that a module uses but does not define."""
    nodes = list(ast.walk(tree))
    own = {
        node.name
        for node in nodes
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }
    own |= {
        node.id
        for node in nodes
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    own |= {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and getattr(node.value, 'id', '') == 'self'
    }
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    for node in nodes:
        if isinstance(node, ast.Call) and len(node.args) > 1:
            is_attribute = getattr(node.func, 'id', '') in (
                'getattr',
                'hasattr',
                'setattr',
            )
            if is_attribute and isinstance(node.args[1], ast.Constant):
                used.add(node.args[1].value)
        if isinstance(node, ast.ImportFrom) and not (
            node.module or ''
        ).startswith('repfusion_mm'):
            used |= {alias.name for alias in node.names}
    return {name for name in used - own - PUBLIC if is_private(name)}


def test_no_other_private_members_are_used():
    listed = {part for path in PRIVATE_MEMBERS for part in path.split('.')}
    unlisted = {
        f'{path.relative_to(PACKAGE)}: {name}'
        for path in PACKAGE.rglob('*.py')
        for name in find_private_names(ast.parse(path.read_text()))
        if name not in listed
    }
    assert not unlisted
