"""Text files have the same encoding in every locale."""

import ast

import pytest

from tests.helpers.launcher import ROOT

FILES = [
    path
    for folder in ('repfusion_mm', 'tools', 'projects')
    for path in sorted((ROOT / folder).rglob('*.py'))
]


def opens_text_without_encoding(node):
    """Return whether a call opens a text file in the locale's encoding."""
    if not isinstance(node, ast.Call):
        return False
    if any(keyword.arg == 'encoding' for keyword in node.keywords):
        return False
    name = ast.unparse(node.func)
    method = name.rpartition('.')[2]
    if method in ('read_text', 'write_text'):
        return True
    if method != 'open' or name in ('self.open', 'Image.open', 'os.open'):
        return False
    modes = node.args[0 if '.' in name else 1 :][:1]
    return not (modes and 'b' in ast.unparse(modes[0]))


@pytest.mark.parametrize(
    ('code', 'expected'),
    [
        ("open('a')", True),
        ("path.open('w')", True),
        ('path.read_text()', True),
        ("open('a', 'rb')", False),
        ("open('a', encoding='utf-8')", False),
    ],
)
def test_calls_without_encoding_are_found(code, expected):
    (statement,) = ast.parse(code).body
    assert opens_text_without_encoding(statement.value) is expected


def test_text_files_are_opened_as_utf8():
    found = [
        f'{path.relative_to(ROOT)}:{node.lineno}'
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8')))
        if opens_text_without_encoding(node)
    ]
    assert not found
