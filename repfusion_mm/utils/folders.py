"""Replace folders."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path


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
