"""Find image files, and log which files of a folder are not used."""

from __future__ import annotations

import logging
import mimetypes
import os
import os.path as osp
from collections import Counter
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

import cv2
from mmengine.fileio import get_file_backend, get_text
from mmengine.fileio.backends import prefix_to_backends
from mmengine.logging import print_log

#: Extensions of images; the content of these files is not checked.
EXTENSIONS = (
    '.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp',
)  # fmt: skip
#: Folders that operating systems and file managers add.
SYSTEM_FOLDERS = (
    '@eaDir', '__MACOSX', '$RECYCLE.BIN', 'System Volume Information',
    'lost+found',
)  # fmt: skip
#: Number of files of each other extension that are tested with OpenCV.
NUM_SAMPLES = 3


class Listing(NamedTuple):
    """The files below a folder.

    Attributes:
        files: Paths relative to the folder, sorted.
        folders: Names of its direct subfolders, sorted.
        hidden: Hidden files and folders, and those of operating systems.
        broken: Links without a target, or to a folder that contains them.
    """

    files: List[str]
    folders: List[str]
    hidden: List[str]
    broken: List[str]


def is_local(path: str, backend_args: Optional[dict] = None) -> bool:
    """Return whether mmengine reads a path from the local file system."""
    backend = (backend_args or {}).get('backend')
    if backend is not None:
        return backend in ('local', 'disk')
    return '://' not in path


def check_listable(root: str) -> None:
    """Refuse a URL of images that mmengine cannot list.

    Raises:
        ValueError: mmengine has no file backend for it, or the backend cannot
            list folders.
    """
    if is_local(root):
        return
    backend = prefix_to_backends.get(root.split('://')[0].split(':')[-1])
    if not hasattr(backend, 'join_path'):
        raise ValueError(
            'expected a folder of images on a disk or in a storage that '
            f'mmengine can list, got {root!r}; copy the images to a disk and '
            'set data_root and data_prefix to a path'
        )


def class_conflicts(folders: Dict[str, int], classes: Iterable) -> List[str]:
    """Return the folders whose number is not that of the class they name."""
    numbers = {name: number for number, name in enumerate(classes)}
    return [
        name
        for name, number in folders.items()
        if numbers.get(name, number) != number
    ]


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden, or of an operating system."""
    return name.startswith('.') or name in SYSTEM_FOLDERS


def list_files(root: str) -> Listing:
    """List the files below a folder, at any address that mmengine can list.

    Links are followed, except to a folder that contains them.
    """
    if is_local(root):
        listing = Listing([], [], [], [])
        _scan(root, '', listing, (osp.realpath(root),))
    else:
        backend = get_file_backend(root, enable_singleton=True)
        found = [*backend.list_dir_or_file(root, list_dir=False, recursive=1)]
        shown = [p for p in found if not any(map(is_hidden, p.split('/')))]
        folders = {path.split('/')[0] for path in shown if '/' in path}
        hidden = sorted({*found} - {*shown})
        listing = Listing(shown, [*folders], hidden, [])
    listing.files.sort()
    listing.folders.sort()
    return listing


def _scan(
    root: str, inner: str, listing: Listing, parents: Tuple[str, ...]
) -> None:
    with os.scandir(osp.join(root, inner)) as entries:
        for entry in entries:
            path = f'{inner}/{entry.name}' if inner else entry.name
            if is_hidden(entry.name):
                listing.hidden.append(path)
            elif entry.is_file():
                listing.files.append(path)
            elif not entry.is_dir():
                listing.broken.append(path)
            else:
                real = osp.realpath(entry.path)
                if real in parents:
                    listing.broken.append(path)
                    continue
                if not inner:
                    listing.folders.append(entry.name)
                _scan(root, path, listing, (*parents, real))


def path_within(root: str, path: str) -> str:
    """Return a path relative to a folder, with slashes on every system."""
    return osp.relpath(path, root).replace(os.sep, '/')


def extension(path: str) -> str:
    """Return the extension of a path in lower case."""
    return osp.splitext(path)[1].lower()


def find_extensions(root: str, files: Iterable[str]) -> Tuple[str, ...]:
    """Return the extensions of images among local files.

    These are ``EXTENSIONS``, and others if OpenCV recognizes one of the first
    files by its content.
    """
    samples: Dict[str, List[str]] = {}
    for path in files:
        paths = samples.setdefault(extension(path), [])
        if len(paths) < NUM_SAMPLES:
            paths.append(path)
    others = {
        suffix
        for suffix, paths in samples.items()
        if suffix not in EXTENSIONS
        and any(cv2.haveImageReader(osp.join(root, path)) for path in paths)
    }
    return (*EXTENSIONS, *sorted(others))


def count_extensions(files: Iterable[str]) -> str:
    """Return the number of files of each extension, e.g. ``'12 .jpg'``."""
    counts = Counter(extension(path) for path in files)
    return ', '.join(
        f'{count} {suffix or "without extension"}'
        for suffix, count in counts.most_common()
    )


def log_listing(root: str, listing: Listing, images: Iterable[str]) -> None:
    """Log how many images of a folder are used, and which files are not.

    It is a warning if image files or broken links are not used.
    """
    images = {*images}
    others = [path for path in listing.files if path not in images]
    left_out = [count_extensions(others)] if others else []
    for kind in ('hidden', 'broken'):
        paths = getattr(listing, kind)
        if paths:
            kind += ' links' if kind == 'broken' else ''
            names = ', '.join(paths[:3]) + (' ...' if paths[3:] else '')
            left_out.append(f'{len(paths)} {kind} ({names})')
    lost = any(
        extension(path) in EXTENSIONS
        or (mimetypes.guess_type(path)[0] or '').startswith('image/')
        for path in others
    )
    found = f': {count_extensions(sorted(images))}' if images else ''
    text = f'{root}: {len(images)} images{found}'
    if left_out:
        text += '; left out: ' + ', '.join(left_out)
    print_log(
        text,
        logger='current',
        level=logging.WARNING if lost or listing.broken else logging.INFO,
    )


def read_list(path: str, with_label: bool) -> List[Tuple[str, Optional[int]]]:
    """Read a list of images, one ``path`` or ``path label`` a line.

    Blank lines, a byte order mark, tabs and carriage returns are ignored.

    Returns:
        Paths and labels; the labels are None without ``with_label``.

    Raises:
        ValueError: The file is not text in UTF-8, or has no lines; a label is
            not an integer; or an image has two labels.
    """
    expected = 'lines "path label"' if with_label else 'lines "path"'
    try:
        text = get_text(path, encoding='utf-8-sig')
    except UnicodeDecodeError as error:
        raise ValueError(
            f'expected {expected} in {path}, got a file that is not text '
            f'({error}); write it in UTF-8'
        ) from error
    entries = list(_parse(path, text, with_label, expected))
    if not entries:
        raise ValueError(
            f'expected {expected} in {path}, got an empty file; list images '
            'there'
        )
    labels: Dict[str, Optional[int]] = {}
    for name, label in entries:
        known = labels.setdefault(osp.normpath(name), label)
        if known != label:
            raise ValueError(
                f'expected one label for each image in {path}, got {known} '
                f'and {label} for {name!r}; remove one of its lines'
            )
    if len(labels) < len(entries):
        print_log(
            f'{path}: {len(entries)} lines, {len(entries) - len(labels)} of '
            'them repeat an image',
            logger='current',
            level=logging.WARNING,
        )
    return entries


def _parse(
    path: str, text: str, with_label: bool, expected: str
) -> Iterator[Tuple[str, Optional[int]]]:
    for number, line in enumerate(text.split('\n'), 1):
        if not line.strip():
            continue
        if not with_label:
            yield line.strip(), None
            continue
        try:
            name, label = line.strip().rsplit(None, 1)
            yield name, int(label)
        except ValueError as error:
            raise ValueError(
                f'expected {expected} in {path}, where labels are integers '
                f'from 0, got {line!r} in line {number}; correct it'
            ) from error
