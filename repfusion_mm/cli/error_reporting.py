"""End a command line with one line that names the error."""

from __future__ import annotations

import contextlib
import re
import sys
import traceback
from typing import Iterator

from mmengine.config.utils import MODULE2PACKAGE

from repfusion_mm.cli.config_place import find_place

#: Maximum length of the last line.
MAX_CHARACTERS = 1000
#: Packages of the modules that this package and its configs import.
INSTALLED_BY = {
    **MODULE2PACKAGE,
    **{name: name for name in ('diffusers', 'jinja2', 'kornia')},
    **{name: name for name in ('rich', 'scipy', 'timm', 'torchvision')},
    'mmcv': 'mmcv-lite==2.1.0',
    'pkg_resources': 'setuptools<81',  # imported by mmengine
    'sklearn': 'scikit-learn',
}


@contextlib.contextmanager
def report_errors() -> Iterator[None]:
    """Print the traceback of an error, and its message as the last line.

    Raises:
        SystemExit: With status 1 instead of any other exception; with 130
            after Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, 'reconfigure'):  # their encoding may be ASCII
            stream.reconfigure(errors='backslashreplace')
    try:
        yield
    except KeyboardInterrupt:
        print('\nInterrupted by Ctrl-C; a training resumes with --resume')
        raise SystemExit(130) from None
    except Exception as error:
        traceback.print_exc()
        raise SystemExit('\n' + describe(error)) from None


def describe(error: Exception) -> str:
    """Return the type and the message of an error in one line."""
    lines = [line.strip() for line in str(error).splitlines()]
    if not lines:  # an assertion without a message
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f'{frame.line} in {frame.filename}' for frame in frames[-1:]]
    text = f'{type(error).__name__}: ' + '; '.join(filter(None, lines))
    text = text.replace(':; ', ': ')
    if isinstance(error, ModuleNotFoundError):
        package = INSTALLED_BY.get(error.name or '')
        text += f"; run: pip install '{package}'" if package else ''
    if len(text) > MAX_CHARACTERS:
        text = f'{text[:MAX_CHARACTERS]} ...'
    place = ''
    with contextlib.suppress(Exception):  # would hide the error itself
        place = find_place(error)
    if place and re.split('[;=]', place)[0][len('in ') :] not in text:
        text += f' ({place})'
    return text
