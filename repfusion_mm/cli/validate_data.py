"""Check the files of a dataset before it is built."""

from __future__ import annotations

import mmap
import os.path as osp
import re
from typing import Any, Iterator, Optional

from repfusion_mm.datasets.image_files import (
    check_listable,
    is_local,
    read_list,
)
from repfusion_mm.registry import DATASETS
from repfusion_mm.utils.types import resolve_type

#: Where ImageFolderDataset and mmpretrain's CustomDataset read lists.
OURS = 'repfusion_mm.datasets.image_folder'
CUSTOM = 'mmpretrain.datasets.custom'
#: The first keypoints of an annotation, not the names in the categories.
KEYPOINTS = re.compile(rb'"keypoints"\s*:\s*\[\s*\[?\s*(-?\d[-+\d.eE,\s]*)\]')


def check_dataset(cfg: dict, scope: Optional[str] = None) -> None:
    """Check the local files that a dataset is certain to read.

    Data without ``ann_file`` may be downloaded and is not checked, unless it
    is read as by mmpretrain's ``CustomDataset`` or by ``ImageFolderDataset``.
    Of data that another backend than the local disk reads, only the address
    is checked.

    Args:
        cfg: The config of the dataset.
        scope: ``default_scope`` of the run.
    """
    for part in _leaves(cfg):
        root, ann_file = part.get('data_root') or '', part.get('ann_file')
        cls = resolve_type(part, DATASETS, part.get('_scope_', scope))
        reader = getattr(cls, 'load_data_list', None)
        module = getattr(reader, '__module__', '')
        is_ours, is_custom = module == OURS, module == CUSTOM
        if is_ours or is_custom:
            prefix = part.get('data_prefix') or ''
            if isinstance(prefix, dict):
                prefix = prefix.get('img_path') or ''
            check_listable(root)
            check_listable(prefix)
        if not (ann_file or is_custom or is_ours) or _is_remote(part):
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
        if osp.isfile(path) and osp.getsize(path) and _is_pose(cls):
            check_keypoints(path)
        if (is_custom or is_ours) and osp.isfile(path):
            check_list(path, part.get('with_label', True), not is_ours)


def check_list(path: str, with_label: bool, is_strict: bool) -> None:
    """Check a list of images, one ``path`` or ``path label`` a line.

    Args:
        path: The list.
        with_label: Whether its lines have labels.
        is_strict: Whether the dataset reads lists as mmpretrain's
            ``CustomDataset`` does, which takes each line as it is.
    """
    read_list(path, with_label)
    if not is_strict:
        return
    with open(path, encoding='utf-8') as file:
        lines = file.read().split('\n')
    odd = 'a byte order mark' if lines[0].startswith('\ufeff') else ''
    if not lines[-1]:  # after the last end of line
        lines.pop()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            odd = odd or f'a blank line, line {number}'
        elif with_label and ' ' not in line.strip():
            odd = odd or f'{line!r} in line {number}, with a tab'
    if odd:
        raise ValueError(
            f"expected a list as mmpretrain's CustomDataset reads it at "
            f'{path!r}, got {odd}; remove it, or use '
            'type="repfusion_mm.ImageFolderDataset"'
        )


def check_keypoints(path: str) -> None:
    """Check the first keypoints of annotations in COCO's format, if any.

    mmpose's datasets read x, y and the visibility v of each keypoint, and fail
    in numpy's ``reshape`` if there is no v.
    """
    with open(path, 'rb') as file, mmap.mmap(
        file.fileno(), 0, access=mmap.ACCESS_READ
    ) as text:
        found = KEYPOINTS.search(text)
        # A list of numbers, or of lists of numbers for each keypoint.
        values = bytes(found[1]).count(b',') + 1 if found else 0
    if values % 3:
        raise ValueError(
            "expected keypoints x, y, v in COCO's format, a multiple of 3 "
            f'numbers, got {values} in {path}; add the visibility v of each '
            'keypoint (0: not labeled, 1: hidden, 2: visible)'
        )


def _is_pose(cls: Any) -> bool:
    """Return whether mmpose parses the annotations of a dataset class."""
    parser = getattr(cls, 'parse_data_info', None)
    return getattr(parser, '__module__', '').startswith('mmpose.')


def _is_remote(cfg: dict) -> bool:
    """Return whether the dataset or its pipeline reads no local files."""
    transforms = [t for t in cfg.get('pipeline') or () if isinstance(t, dict)]
    args = [
        part.get('backend_args') or part.get('file_client_args')
        for part in (cfg, *transforms)
    ]
    paths = f'{cfg.get("data_root")} {cfg.get("ann_file")}'
    return not all(is_local(paths, arg) for arg in args)


def _leaves(cfg: dict) -> Iterator[dict]:
    """Yield the configs of the datasets that read files."""
    parts = cfg.get('datasets', [cfg['dataset']] if 'dataset' in cfg else None)
    if parts is None:
        yield cfg
    for part in parts or ():
        yield from _leaves(part)
