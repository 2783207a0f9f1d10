"""Draw bounding boxes as a label map."""

from __future__ import annotations

import numpy as np
from mmcv import BaseTransform

from repfusion_mm.registry import TRANSFORMS

#: The class of pixels that do not count, as in mmseg and mmdet.
IGNORED = 255


@TRANSFORMS.register_module()
class BoxesToMask(BaseTransform):
    """Replace boxes by a map of the class of the box at each pixel.

    Background is 0, and class c of the boxes is c + 1. Smaller boxes are drawn
    over larger ones. Pixels that only ignored boxes (``iscrowd``) cover are
    255.

    Required keys: ``gt_bboxes`` (mmdet's boxes or an N x 4 array of corners in
    pixels), ``gt_bboxes_labels``, ``img_shape``; optional:
    ``gt_ignore_flags``. They are replaced by ``gt_seg_map``.

    Raises:
        ValueError: A class is above 253, so that it does not fit the map.
    """

    def transform(self, results: dict) -> dict:
        """Draw the boxes."""
        boxes = results.pop('gt_bboxes')
        boxes = np.asarray(getattr(boxes, 'tensor', boxes), dtype=np.float64)
        labels = np.asarray(results.pop('gt_bboxes_labels'))
        ignored = results.pop('gt_ignore_flags', np.zeros(len(labels), bool))
        if len(labels) and labels.max() + 1 >= IGNORED:
            raise ValueError(
                f'expected boxes of at most {IGNORED - 1} classes, got class '
                f'{labels.max()}; merge classes'
            )
        height, width = results['img_shape'][:2]
        boxes = boxes.reshape(-1, 4).clip(0, [width, height, width, height])
        corners = boxes.round().astype(int)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        mask = np.zeros((height, width), dtype=np.uint8)
        # Ignored ones first, then from large to small.
        for i in np.lexsort((-areas, ~np.asarray(ignored, dtype=bool))):
            left, top, right, bottom = corners[i]
            value = IGNORED if ignored[i] else labels[i] + 1
            mask[top:bottom, left:right] = value
        results['gt_seg_map'] = mask
        results.setdefault('seg_fields', []).append('gt_seg_map')
        return results
