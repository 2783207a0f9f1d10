"""Compare the classes of a COCO dataset with the categories of its file."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from mmengine.logging import print_log


def check_categories(dataset: Any) -> None:
    """Refuse classes that no category of the file has.

    mmdet drops the boxes of all categories that are not classes, without a
    word; such categories are logged.

    Args:
        dataset: A dataset of boxes whose annotations are a local COCO file;
            others are not checked.

    Raises:
        ValueError: A class is not a category.
    """
    file = Path(str(getattr(dataset, 'ann_file', '')))
    if not hasattr(dataset, 'cat_ids') or not file.is_file():
        return
    content = json.loads(file.read_text(encoding='utf-8'))
    names = [str(category['name']) for category in content['categories']]
    classes = [*dataset.metainfo.get('classes', ())]
    missing = [name for name in classes if name not in names]
    if missing:
        raise ValueError(
            f'expected classes among the categories of {file}, {names}, got '
            f'{missing}; correct metainfo.classes of {type(dataset).__name__} '
            "('names' in repfusion_custom.py)"
        )
    others = sorted({*names} - {*classes})
    if others:
        print_log(
            f'the boxes of the categories {others} of {file} are dropped: '
            f'they are not among the classes {classes}',
            logger='current',
            level=logging.WARNING,
        )
