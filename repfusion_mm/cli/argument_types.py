"""Types of arguments, and the config argument of the analysis tools."""

import argparse
from pathlib import Path

from mmengine.config import Config


def positive(text: str) -> int:
    """Parse an integer of one or more."""
    return _integer(text, 1)


def not_negative(text: str) -> int:
    """Parse an integer of zero or more."""
    return _integer(text, 0)


def above_zero(text: str) -> float:
    """Parse a number greater than zero."""
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not number > 0:
        raise argparse.ArgumentTypeError(
            f'expected a number above 0, got {text!r}'
        )
    return number


def read_distillation(path: str, options: dict) -> Config:
    """Read the config of a distillation, and merge options into it.

    Raises:
        SystemExit: The file is not such a config.
    """
    if not Path(path).is_file() or not path.endswith('.py'):
        raise SystemExit(
            'error: expected the config of a distillation, a file *.py, got '
            f'{path!r}'
        )
    cfg = Config.fromfile(path)
    cfg.merge_from_dict(options or {})
    if 'teacher' not in cfg.get('model', {}):
        raise SystemExit(
            f'error: expected the config of a distillation, got {path} '
            'without model.teacher'
        )
    return cfg


def _integer(text: str, minimum: int) -> int:
    if not text.isdecimal() or int(text) < minimum:
        raise argparse.ArgumentTypeError(
            f'expected an integer of {minimum} or more, got {text!r}'
        )
    return int(text)
