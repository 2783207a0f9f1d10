"""Check which files of a folder a dataset uses, and which classes it has."""

from __future__ import annotations

import logging
import os.path as osp
from typing import Any, Sequence

from mmengine.logging import print_log

from repfusion_mm.datasets.image_files import (
    class_conflicts,
    is_hidden,
    is_local,
    list_files,
    log_listing,
    path_within,
)
from repfusion_mm.datasets.wrappers import iter_infos, iter_leaves

#: Usual names of folders that are parts of a data set, not classes.
SPLITS = {'train', 'training', 'val', 'valid', 'validation', 'test', 'testing'}


def check_files(dataset: Any, model: Any) -> None:
    """Check the folders that datasets list, and their classes.

    The number of images by extension and what is left out are logged for any
    dataset without a list, such as mmpretrain's ``CustomDataset`` and mmseg's
    ``BaseSegDataset``.

    Raises:
        ValueError: A hidden folder is a class, folders have another number
            than the class of their name, or there are more folders than
            classes of the decoder.
    """
    for leaf in iter_leaves(dataset):
        folders = getattr(leaf, 'folder_to_idx', None)
        if folders:
            check_order(folders, leaf.metainfo.get('classes') or ())
            check_classes(folders, model.decoder)
        if not getattr(leaf, 'logs_files', False):
            log_files(leaf)


def check_order(folders: dict, classes: Sequence) -> None:
    """Refuse folders with another number than the class of their name."""
    conflicts = class_conflicts(folders, classes)
    if conflicts:
        raise ValueError(
            f'expected classes in the order of their folders, '
            f'{[*folders][:20]}, got {[*classes][:20]}; sort them, or use '
            'type="repfusion_mm.ImageFolderDataset", which numbers folders in '
            'the order of classes'
        )


def check_classes(folders: dict, decoder: Any) -> None:
    """Compare folders that are classes with the classes of the decoder."""
    names = ', '.join([*folders][:10]) + (' ...' if len(folders) > 10 else '')
    hidden = [name for name in folders if is_hidden(name)]
    if hidden:
        raise ValueError(
            f'expected visible folders as classes, got {hidden} among '
            f'{names}; remove them, or use '
            'type="repfusion_mm.ImageFolderDataset", which ignores them'
        )
    expected = getattr(decoder, 'num_classes', len(folders))
    if len(folders) > expected:
        raise ValueError(
            f'expected {expected} class folders, as in '
            f'model.decoder.num_classes, got {len(folders)} ({names}); set '
            f'num_classes={len(folders)}'
        )
    text = f'{len(folders)} class folders ({names})'
    splits = sorted({name.lower() for name in folders} & SPLITS)
    if splits:
        text += f', of which {" and ".join(splits)} may be splits of a dataset'
    if len(folders) < expected:
        text += f', but model.decoder.num_classes={expected}'
    warn = splits or len(folders) < expected
    level = logging.WARNING if warn else logging.INFO
    print_log(text, logger='current', level=level)


def log_files(leaf: Any) -> None:
    """Log which files of its folder a dataset without a list uses."""
    prefix = getattr(leaf, 'data_prefix', None)
    root = prefix.get('img_path') if isinstance(prefix, dict) else None
    if getattr(leaf, 'ann_file', None) or not isinstance(root, str):
        return
    if not is_local(root, getattr(leaf, 'backend_args', None)):
        return
    paths = [info.get('img_path') for info in iter_infos(leaf)]
    if not osp.isdir(root) or not all(isinstance(p, str) for p in paths):
        return
    images = [path_within(root, str(path)) for path in paths]
    listing = list_files(root)
    unused = [
        name
        for name in listing.hidden
        if not any(f'{path}/'.startswith(f'{name}/') for path in images)
    ]
    log_listing(root.rstrip('/'), listing._replace(hidden=unused), images)
    hidden = [p for p in images if any(map(is_hidden, p.split('/')))]
    if hidden:
        print_log(
            f'{root}: number of used images that are in hidden folders: '
            f'{len(hidden)} ({hidden[0]} ...)',
            logger='current',
            level=logging.WARNING,
        )
