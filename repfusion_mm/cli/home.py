"""Expand the home directory in options and configs."""

import os.path as osp
import re
from typing import Any

#: A home directory at the start of an argument or of an option's value.
HOME = re.compile(r'(?:^|(?<==))~(?=/|$)')


def expand_argument(text: str) -> str:
    """Replace ``~/`` at the start of an argument or of its value."""
    # Not a template: a path of Windows has backslashes.
    return HOME.sub(lambda match: osp.expanduser('~'), text)


def expand_home(value: Any) -> Any:
    """Replace ``~/`` at the start of all texts in a config; return it."""
    if isinstance(value, str) and value.startswith('~'):
        return expand_argument(value)
    if isinstance(value, dict):
        for key in [*value]:
            if isinstance(value[key], (str, dict, list, tuple)):
                value[key] = expand_home(value[key])
    elif type(value) in (list, tuple):
        return type(value)(expand_home(item) for item in value)
    return value
