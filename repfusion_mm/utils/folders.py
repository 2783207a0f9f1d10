"""Replace folders, and check what is in them."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Iterable


def replace_folder(new: Path, folder: Path) -> None:
    """Move a finished folder to the place of another one, if there is one.

    The other one is moved aside and then removed, because some of its files
    may not be removable (on NFS, while another process reads them).

    Args:
        new: On the same file system.
        folder: Not a symbolic link: give what it points to.

    Raises:
        OSError: ``new`` cannot be moved; both folders are where they were.
    """
    if not folder.is_dir():
        os.replace(new, folder)
        return
    # Of a new name: an earlier one may have stayed.
    aside = tempfile.mkdtemp(prefix=f'{folder.name}.old', dir=folder.parent)
    os.rmdir(aside)  # Windows replaces no folder
    os.replace(folder, aside)
    try:
        os.replace(new, folder)
    except OSError:
        os.replace(aside, folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def check_no_others(folder: Path, names: Iterable[str]) -> None:
    """Refuse files of an earlier conversion in a folder of images.

    A training on the folder would read them.

    Args:
        folder: A folder, which may be missing.
        names: Names of the files that it may have.

    Raises:
        ValueError: It has others.
    """
    others = sorted({path.name for path in folder.glob('*')} - {*names})
    if others:
        raise ValueError(
            f'expected no files in {folder} but those of this conversion, got '
            f'{len(others)} others ({others[:3]}), which a training on the '
            'folder would read; remove the folder, or give another --out'
        )
