"""Read which names the files of a config assign and use."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path
from typing import Any, FrozenSet, Iterator, NamedTuple, Set, Tuple

import mmengine
from mmengine.config import Config

#: Functions in a file of values only, such as one that a run dumped.
CONSTRUCTORS = {'dict', 'list', 'tuple', 'set'}


class ConfigFile(NamedTuple):
    """The names at the top level of a file, which a run may inherit from."""

    path: str
    assigned: Set[str]
    edited: Set[str]  #: Imported or inherited ones, also items of them.
    used: FrozenSet[str]  #: By this file, and by those that inherit from it.
    inherited: Set[str]  #: Assigned by the files that it inherits from.

    @property
    def is_installed(self) -> bool:
        """Whether the file is one of an installed package."""
        return '.mim' in Path(self.path).parts

    @property
    def has_only_values(self) -> bool:
        """Whether it has no code, and inherits from no other file."""
        return not self.inherited and self.used <= CONSTRUCTORS

    @property
    def is_dumped(self) -> bool:
        """Whether a run wrote the file, as it is now."""
        text = Path(self.path).read_text(encoding='utf-8')
        return text.strip() == Config.fromfile(self.path).pretty_text.strip()


def iter_files(
    path: str, used: FrozenSet[str] = frozenset()
) -> Iterator[ConfigFile]:
    """Yield a config file, and then those that it inherits from.

    Files that pure-Python configs import are not read.

    Args:
        path: The file.
        used: Names that files read of it which inherit from it.
    """
    if not Path(path).is_file():
        return
    text = Path(path).read_text(encoding='utf-8')
    assigned, edited, own, read = _read_names(path, text)
    bases = [
        file
        for base in Config._get_base_files(path)
        for file in iter_files(_find_base(base, path), used | read)
    ]
    inherited = {name for file in bases for name in file.assigned}
    yield ConfigFile(path, assigned, edited, used | own, inherited)
    yield from bases


@functools.lru_cache(maxsize=None)
def _find_base(base: str, path: str) -> str:
    """Return the path of a base of the file at ``path``.

    For a base ``PACKAGE::...``, mmengine parses the index of all configs of
    the package each time, which takes a tenth of a second.
    """
    return Config._get_cfg_path(base, path)[0]


@functools.lru_cache(maxsize=None)
def _read_names(
    path: str, text: str
) -> Tuple[Set[str], Set[str], Set[str], Set[str]]:
    """Return the names that a file assigns, edits, uses, reads of bases."""
    used: Set[str] = set()
    read = {*re.findall(r'\{\{\s*_base_\.(\w+)', text)}
    if not path.endswith('.py'):
        return set(mmengine.load(path)), set(), used, read
    assigned: Set[str] = set()
    edited: Set[str] = set()
    roots: Set[ast.AST] = set()
    tree = ast.parse(text)
    for node in ast.walk(tree):
        targets = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, (ast.AnnAssign, ast.AugAssign)):
            targets = [node.target]
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            targets = [node.value.func]  # name.update(...)
        elif isinstance(node, ast.For):
            used.update(_names_in(node.target))
        for target in targets:
            if isinstance(target, (ast.Attribute, ast.Subscript)):
                root = _root_of(target)
                roots.add(root)
                if _name_of(root):
                    edited.add(_name_of(root))
            else:
                assigned.update(_names_in(target))
    for node in {*ast.walk(tree)} - roots:
        if isinstance(getattr(node, 'ctx', None), ast.Load):
            found = used if isinstance(node, ast.Name) else read
            found.add(_name_of(node))
    # A variable may be another name of a setting, which its edit changes.
    used |= edited & assigned
    return assigned, edited - assigned - read, used, read


def _names_in(target: ast.AST) -> Set[str]:
    """Return the names that an assignment to ``target`` sets."""
    names = {n for n in ast.walk(target) if isinstance(n, ast.Name)}
    return {name.id for name in names if isinstance(name.ctx, ast.Store)}


def _root_of(node: ast.AST) -> ast.AST:
    """Return ``name`` or ``_base_.name`` of ``name.attribute[item]``."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        if _is_base(node.value):
            break
        node = node.value
    return node


def _name_of(node: ast.AST) -> str:
    """Return the name of ``name``, ``_base_.name`` or ``_base_['name']``."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and _is_base(node.value):
        return node.attr
    if isinstance(node, ast.Subscript) and _is_base(node.value):
        key: Any = getattr(node.slice, 'value', '')
        key = getattr(key, 'value', key)  # of the ast.Index of Python 3.8
        return key if isinstance(key, str) else ''
    return ''


def _is_base(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == '_base_'
