"""Parts of messages."""

from __future__ import annotations

from typing import Sequence

#: Units for :func:`scale`.
BYTES = ('bytes', 'kB', 'MB', 'GB')
PARAMETERS = ('parameters', 'thousand parameters', 'M parameters')


def scale(value: int, units: Sequence[str]) -> str:
    """Return a number in the unit that suits it, each 1000 of the last."""
    power = min((len(str(value)) - 1) // 3, len(units) - 1)
    number = f'{value / 1000**power:.1f}' if power else f'{value}'
    return f'{number} {units[power]}'


def find_reason(error: Exception) -> str:
    """Return why a file of weights cannot be read, in at most 200 characters.

    torch's message also says how to read the file unsafely.
    """
    text = str(error)
    if 'WeightsUnpickler error' in text:
        # The rest asks to report an issue of torch, and to read its docs.
        text = text.partition('WeightsUnpickler error:')[2]
        text = text.partition('Check the documentation')[0]
    text = text.partition(' Please use `torch.serialization')[0]
    lines = [i.strip() for i in text.splitlines() if i.strip()]
    named = [i for i in lines if 'GLOBAL' in i]
    return (named or lines or [type(error).__name__])[-1][:200]
