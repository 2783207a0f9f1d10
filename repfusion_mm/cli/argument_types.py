"""Types of arguments, and the teacher argument of the analysis tools."""

import argparse
import difflib
import math
from functools import partial
from pathlib import Path
from typing import List

from mmengine.config import Config

import repfusion_mm
from repfusion_mm.cli.files import CONFIG_SUFFIXES, check_file

#: The configs of teachers; .mim links to the checkout, or is in the wheel.
TEACHERS = Path(repfusion_mm.__file__).parent / '.mim/configs/_base_/teachers'


def integer(text: str, minimum: int) -> int:
    """Parse an integer of at least ``minimum``.

    Raises:
        argparse.ArgumentTypeError: It is no integer, or a smaller one.
    """
    if not text.isdecimal() or int(text) < minimum:
        raise argparse.ArgumentTypeError(
            f'expected an integer of {minimum} or more, got {text!r}'
        )
    return int(text)


non_negative_int = partial(integer, minimum=0)
positive_int = partial(integer, minimum=1)


def output_file(text: str) -> Path:
    """Parse the path of a file that is written at the end of a command.

    Raises:
        argparse.ArgumentTypeError: It is a folder, or its folder is missing.
    """
    path = Path(text)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(
            f'expected a file in a folder that exists, got {text!r}'
        )
    return path


def positive_float(text: str) -> float:
    """Parse a finite number above zero.

    Raises:
        argparse.ArgumentTypeError: It is no such number.
    """
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(
            f'expected a finite number above 0, got {text!r}'
        )
    return number


def find_teachers() -> List[str]:
    """Return the names of the teachers of ``configs/_base_/teachers``.

    That of the user's own denoiser is left out.
    """
    names = sorted(path.stem for path in TEACHERS.glob('*.py'))
    return [name for name in names if name != 'ddpm_custom']


def read_teacher(text: str) -> dict:
    """Return the teacher that an argument names.

    Args:
        text: A config with ``model.teacher`` or ``teacher``; the name of one
            of ``configs/_base_/teachers``; or the folder or hub id of a
            diffusers pipeline.

    Raises:
        ValueError: The config has no teacher.
        OSError: There is no such config or name. A text with a slash may be a
            hub id, and is not checked.
    """
    named = TEACHERS / f'{text}.py'
    path = str(named) if named.is_file() else text
    if Path(path).suffix not in CONFIG_SUFFIXES:
        if '/' not in text and not Path(text).expanduser().exists():
            names = find_teachers()
            near = difflib.get_close_matches(text, names) or names
            raise FileNotFoundError(
                'expected a teacher of configs/_base_/teachers, a config, a '
                f'folder or a hub id, got {text!r}; choose one of {near}'
            )
        return dict(type='repfusion_mm.DiffusersTeacher', pretrained=text)
    check_file(path, 'a config')
    settings = Config.fromfile(path).to_dict()
    settings = settings.get('model', settings)
    teacher = settings.get('teacher')
    if not isinstance(teacher, dict):
        raise ValueError(
            f'expected a config with model.teacher or teacher, got {path} '
            f'with {sorted(settings)[:8]}; give the config of a distillation, '
            'or one of configs/_base_/teachers'
        )
    return teacher
