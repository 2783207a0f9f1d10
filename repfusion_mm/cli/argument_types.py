"""Types of arguments, and the config argument of the analysis tools."""

import argparse
from functools import partial
from pathlib import Path

from mmengine.config import Config

from repfusion_mm.cli.config import read_config


def integer(text: str, minimum: int) -> int:
    """Parse an integer of at least ``minimum``."""
    if not text.isdecimal() or int(text) < minimum:
        raise argparse.ArgumentTypeError(
            f'expected an integer of {minimum} or more, got {text!r}'
        )
    return int(text)


not_negative = partial(integer, minimum=0)
positive = partial(integer, minimum=1)


def output_file(text: str) -> Path:
    """Parse the path of a file that can be written later."""
    if not Path(text).absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(
            f'expected a file in a folder that exists, got {text!r}'
        )
    return Path(text)


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
    """Read the config of a distillation, as :func:`read_config`.

    Raises:
        SystemExit: The config has no teacher.
    """
    cfg = read_config(path, options)
    if 'teacher' not in cfg.get('model', {}):
        raise SystemExit(
            f'error: expected the config of a distillation, got {path} '
            'without model.teacher'
        )
    return cfg
