"""End a command line with one line that names the error."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import sys
import traceback
from pathlib import Path
from typing import Iterator, Optional, Tuple

from mmengine.config.utils import MODULE2PACKAGE

#: Maximum length of the last line.
MAX_CHARACTERS = 1000
#: Folders of the code whose errors say what to do.
OWN_FOLDERS = tuple(
    str(Path(__file__).resolve().parents[2] / name) + os.sep
    for name in ('repfusion_mm', 'tools', 'projects')
)
#: The beginning of the message of an error in a worker of a data loader.
WORKER_ERROR = re.compile(
    r'Caught (\w+) in DataLoader worker process \d+\.\nOriginal Traceback '
)
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
    """Print the message of an error as the last line, after its traceback.

    An error that a check of this package raises, whose message begins with
    "expected", says what to do: it has no traceback.

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
        print(
            '\nInterrupted by Ctrl-C; a training resumes with --resume, a '
            'study, probe or cache with the same command',
            file=sys.stderr,
        )
        raise SystemExit(130) from None
    except Exception as error:
        message = read_message(error)[1]
        is_complete = len(message) < MAX_CHARACTERS
        is_check = message.startswith('expected ') and is_own(error)
        if not (is_check and is_complete):
            print(format_traceback(error), file=sys.stderr)
        raise SystemExit('\n' + describe(error)) from None


def is_own(error: Exception) -> bool:
    """Return whether the code of this repository raised an error.

    Messages of Python and torch may begin with "expected", too.
    """
    frames = traceback.extract_tb(error.__traceback__)
    files = [frame.filename for frame in frames]
    # torch and multiprocessing bring the traceback of a process as text.
    for text in (error, error.__cause__):
        if is_text_of_process(text):
            files += re.findall(r'^ *File "(.+?)", line ', str(text), re.M)
    return files[-1].startswith(OWN_FOLDERS)


def is_text_of_process(error: Optional[BaseException]) -> bool:
    """Return whether a message contains the traceback of another process."""
    return type(error).__name__ == '_RemoteTraceback' or bool(
        WORKER_ERROR.match(str(error))
    )


def format_traceback(error: Exception) -> str:
    """Return the traceback of an error, and that in its worker process.

    Messages that the last line contains are left out, unless it is cut.
    """
    text = ''.join(
        traceback.format_exception(type(error), error, error.__traceback__)
    ).rstrip()
    name, message = read_message(error)
    if len(f'{name}: {message}') > MAX_CHARACTERS:
        return text
    lines = []
    for line in text.splitlines():
        kind, found, rest = line.partition(': ')
        if not line or line.startswith(' '):  # of code
            lines.append(line)
        elif found and rest in message:
            lines.append(kind)
        elif line not in message:
            lines.append(line)
    if lines[-1].rpartition('.')[2] == name:
        lines.pop()
    return '\n'.join(lines)


def read_message(error: Exception) -> Tuple[str, str]:
    """Return the type and the message of an error.

    torch raises the error of a worker process again, with the traceback there
    as its message.
    """
    name, message = type(error).__name__, str(error)
    found = WORKER_ERROR.match(message)
    if found is None:
        return name, message
    lines = message.rpartition('Traceback (most')[2].splitlines()[1:]
    lines = [*itertools.dropwhile(lambda line: line.startswith(' '), lines)]
    return found[1], '\n'.join(lines).partition(': ')[2]


def describe(error: Exception) -> str:
    """Return the type and the message of an error in one line."""
    name, message = read_message(error)
    lines = [line.strip() for line in message.splitlines()]
    if not lines:  # an assertion without a message
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f'{frame.line} in {frame.filename}' for frame in frames[-1:]]
    text = f'{name}: ' + '; '.join(filter(None, lines))
    text = text.replace(':; ', ': ')
    if isinstance(error, ModuleNotFoundError):
        package = INSTALLED_BY.get(error.name or '')
        text += f"; run: pip install '{package}'" if package else ''
    if len(text) > MAX_CHARACTERS:
        text = f'{text[:MAX_CHARACTERS]} ...'
    place = ''
    # An error in finding the place would hide the error itself.
    with contextlib.suppress(Exception):
        if 'torch' in sys.modules:  # else nothing was built from settings
            from repfusion_mm.cli.config_place import find_place

            place = find_place(error)
    if place and re.split('[;=]', place)[0][len('in ') :] not in text:
        text += f' ({place})'
    return text
