"""Check the files of a data set before it is built."""

from __future__ import annotations

import os.path as osp
from typing import Iterator, List


def check_dataset(cfg: dict) -> None:
    """Check the local paths in the config of a data set, and its label list.

    Only folders and lists that the data set would read for certain are
    checked: a data set without ``ann_file`` may be downloaded.

    Args:
        cfg: The config of a data set, or of one that wraps others.

    Raises:
        FileNotFoundError: A folder or a list is missing.
        ValueError: A list of ``CustomDataset`` is empty or not readable.
    """
    for part in _leaves(cfg):
        if part.get('backend_args'):
            continue  # not on a local disk
        root, ann_file = part.get('data_root') or '', part.get('ann_file')
        cls = part.get('type')
        is_custom = getattr(cls, '__name__', str(cls)).endswith(
            'CustomDataset'
        )
        if '://' in root or not (ann_file or is_custom):
            continue
        if root and not osp.isdir(root):
            raise FileNotFoundError(
                f'expected a folder of images at data_root={root!r}, got no '
                'such folder; correct the path'
            )
        if not ann_file or '://' in ann_file:
            continue
        path = osp.join(root, ann_file)
        if not osp.exists(path):
            raise FileNotFoundError(
                f'expected a list of images at {path!r}, got no such file; '
                'correct the path (data_root, ann_file)'
            )
        if is_custom and osp.isfile(path):
            check_list(path, part.get('with_label', True))


def check_list(path: str, with_label: bool) -> None:
    """Check a list of images, one ``path`` or ``path label`` a line.

    Raises:
        ValueError: The list is empty or not text, or a label is missing or
            not an integer.
    """
    expected = 'lines "path label"' if with_label else 'lines "path"'
    try:
        with open(path, encoding='utf-8') as file:
            lines: List[str] = file.read().splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(
            f'expected {expected} in {path}, got a file that is not text '
            f'({error}); write it in UTF-8'
        ) from error
    if not lines:
        raise ValueError(
            f'expected {expected} in {path}, got an empty file; list images '
            'there'
        )
    for number, line in enumerate(lines, 1):
        label = line.strip().rpartition(' ')[2]
        if with_label and not (' ' in line.strip() and _is_integer(label)):
            raise ValueError(
                f'expected {expected} in {path}, where labels are integers '
                f'from 0, got {line!r} in line {number}; correct it'
            )


def _leaves(cfg: dict) -> Iterator[dict]:
    """Yield the configs of the data sets that read files."""
    parts = cfg.get('datasets')
    if parts is None and 'dataset' in cfg:
        parts = [cfg['dataset']]
    if parts is None:
        yield cfg
        return
    for part in parts:
        yield from _leaves(part)


def _is_integer(text: str) -> bool:
    try:
        int(text)
    except ValueError:
        return False
    return True
