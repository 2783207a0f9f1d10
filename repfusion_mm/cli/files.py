"""Check the paths of a command line."""

import os
from pathlib import Path

#: Extensions of the config files that mmengine reads.
CONFIG_SUFFIXES = ('.py', '.json', '.yaml', '.yml')


def make_work_dir(path: str) -> None:
    """Create a work directory.

    Raises:
        OSError: It cannot be created.
    """
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise OSError(
            error.errno,
            f'expected a work directory that can be created, got {path!r} '
            f'({error.strerror}); choose another --work-dir',
        ) from error


def check_file(path: str, kind: str) -> None:
    """Refuse a path that is neither a file nor a URL."""
    if '://' in path:
        return
    file = Path(path).expanduser()
    if file.is_dir():
        pattern = '*.py' if kind == 'a config' else '*.pth'
        names = sorted(file.glob(pattern), key=lambda p: p.stat().st_mtime)
        found = ', '.join(i.name for i in names[-5:]) or f'no {pattern}'
        raise IsADirectoryError(
            f'expected the path of {kind}, got the folder {path!r} with '
            f'{found}; name a file'
            + (
                ', or use --resume without a value and --work-dir '
                f'{path} for the latest one'
                if pattern == '*.pth'
                else ''
            )
        )
    if not file.is_file():
        raise FileNotFoundError(
            f'expected the path of {kind}, got {path!r}, which is not a '
            'file; correct the path'
        )
