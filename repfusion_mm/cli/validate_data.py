"""Check the files of a dataset before it is built."""

from __future__ import annotations

import os.path as osp
from typing import Iterator


def check_dataset(cfg: dict) -> None:
    """Check the local files that a dataset is certain to read.

    Data without ``ann_file`` may be downloaded and is not checked, unless it
    is a ``CustomDataset``.
    """
    for part in _leaves(cfg):
        root, ann_file = part.get('data_root') or '', part.get('ann_file')
        cls = part.get('type')
        is_custom = 'CustomDataset' in getattr(cls, '__name__', str(cls))
        if not (ann_file or is_custom) or (
            part.get('backend_args') or '://' in f'{root} {ann_file}'
        ):
            continue
        if root and not osp.isdir(root):
            raise FileNotFoundError(
                f'expected a folder of images at data_root={root!r}, got no '
                'such folder; correct the path'
            )
        path = osp.join(root, ann_file or '')
        if ann_file and not osp.exists(path):
            raise FileNotFoundError(
                f'expected a list of images at {path!r}, got no such file; '
                'correct the path (data_root, ann_file)'
            )
        if is_custom and osp.isfile(path):
            check_list(path, part.get('with_label', True))


def check_list(path: str, with_label: bool) -> None:
    """Check a list of images, one ``path`` or ``path label`` a line."""
    expected = 'lines "path label"' if with_label else 'lines "path"'
    try:
        with open(path, encoding='utf-8') as file:
            lines = file.read().splitlines()
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
    for number, line in enumerate(lines if with_label else (), 1):
        try:
            _, label = line.strip().rsplit(' ', 1)
            int(label)
        except ValueError as error:
            raise ValueError(
                f'expected {expected} in {path}, where labels are integers '
                f'from 0, got {line!r} in line {number}; correct it'
            ) from error


def _leaves(cfg: dict) -> Iterator[dict]:
    """Yield the configs of the datasets that read files."""
    parts = cfg.get('datasets', [cfg['dataset']] if 'dataset' in cfg else None)
    if parts is None:
        yield cfg
    for part in parts or ():
        yield from _leaves(part)
