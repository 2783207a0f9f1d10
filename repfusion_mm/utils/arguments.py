"""Check the arguments of classes that configs name."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any, Sequence, Tuple


def check_integer(name: str, value: Any, low: int = 1) -> None:
    """Raise a ValueError if a value is not an integer of ``low`` or more."""
    if type(value) is bool or not isinstance(value, Integral) or value < low:
        raise ValueError(
            f'expected {name} to be an integer of {low} or more, got '
            f'{value!r}; correct it'
        )


def read_size(name: str, value: Any) -> Tuple[int, int]:
    """Return height and width of a setting: a side, or both.

    Raises:
        ValueError: It is something else.
    """
    size = tuple(value) if isinstance(value, (list, tuple)) else (value, value)
    if len(size) != 2:
        raise ValueError(
            f'expected {name} to be a side, or height and width, got '
            f'{value!r}; correct it'
        )
    for side in size:
        check_integer(name, side)
    return size


def check_widths(name: str, values: Any, empty: bool = True) -> None:
    """Raise a ValueError if values are not numbers of channels.

    Args:
        name: The setting.
        values: The values.
        empty: Whether there may be none.
    """
    if not isinstance(values, (list, tuple)) or not (values or empty):
        raise ValueError(
            f'expected {name} to be a list of integers, got {values!r}; '
            'correct it'
        )
    for value in values:
        check_integer(f'each of {name}', value)


def check_number(
    name: str, value: Any, high: float = math.inf, positive: bool = False
) -> None:
    """Raise a ValueError if a value is not a finite number of a range.

    Args:
        name: The setting.
        value: The value.
        high: The largest number.
        positive: Whether zero is refused, and not only what is below.
    """
    is_number = isinstance(value, Real) and type(value) is not bool
    right = (
        is_number
        and 0 <= value <= high
        and value < math.inf
        and not (positive and value == 0)
    )
    if not right:
        text = 'above 0' if positive else 'of 0 or more'
        text += '' if high == math.inf else f' and at most {high}'
        raise ValueError(
            f'expected {name} to be a number {text}, got {value!r}; correct it'
        )


def check_choice(name: str, value: Any, choices: Sequence) -> None:
    """Raise a ValueError if a value is none of ``choices``."""
    if value not in choices:
        raise ValueError(
            f'expected {name} to be one of {tuple(choices)}, got {value!r}; '
            'correct it'
        )


def check_flags(prefix: str, **values: Any) -> None:
    """Raise a ValueError if a value is not True or False."""
    for name, value in values.items():
        check_choice(f'{prefix}.{name}', value, (True, False))


def check_list(name: str, value: Any) -> None:
    """Raise a ValueError for a string, whose letters would be a list."""
    if isinstance(value, str):
        raise ValueError(
            f'expected {name} to be a list, got {value!r}; set [{value!r}]'
        )
