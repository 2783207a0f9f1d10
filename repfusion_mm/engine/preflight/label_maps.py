"""Check that label maps lie on their images."""

from __future__ import annotations

import os.path as osp
from typing import Any

from repfusion_mm.datasets.wrappers import iter_pipelines
from repfusion_mm.engine.preflight.stored_images import load, spread

#: Label maps of each dataset that are loaded, and the largest ratio of the
#: proportions of an image and its label map, which may be smaller.
NUM_MAPS, MAX_RATIO = 8, 1.05


def check_label_maps(dataset: Any) -> None:
    """Refuse label maps of other proportions than their images.

    A photograph may have an EXIF orientation, by which it is rotated when it
    is loaded, but not its label map. A resize to one size would hide that.

    Raises:
        ValueError: A local image and its label map differ in proportions.
    """
    for part, pipelines in iter_pipelines(dataset):
        steps = [s for p in pipelines for s in getattr(p, 'transforms', [p])]
        for index in spread(len(part), NUM_MAPS):
            info = part.get_data_info(index)
            if not osp.isfile(str(info.get('seg_map_path'))):
                continue
            try:
                loaded = load(info, steps, 'img', 'gt_seg_map')
                image, labels = loaded['img'], loaded['gt_seg_map']
            except Exception:  # of any loader; labels are checked later
                continue
            (height, width), (rows, columns) = (
                image.shape[:2],
                labels.shape[:2],
            )
            if not _is_similar(height * columns, width * rows):
                advice = 'correct the files'
                if _is_similar(width * columns, height * rows):
                    advice = (
                        'if the image has an EXIF orientation, rotate the '
                        'label map, or load images with '
                        "color_type='color_ignore_orientation'"
                    )
                raise ValueError(
                    'expected label maps with the proportions of their '
                    f'images, got {rows} x {columns} for an image of '
                    f'{height} x {width} ({info["img_path"]}): {advice}'
                )


def _is_similar(one: int, other: int) -> bool:
    return one <= MAX_RATIO * other and other <= MAX_RATIO * one
