"""Read the labels that the options of the command name."""

from __future__ import annotations

from typing import Optional

from repfusion_mm.own_images.images import Images
from repfusion_mm.own_images.labels.base import Labels
from repfusion_mm.own_images.labels.classes import read_folders, read_list_file
from repfusion_mm.own_images.labels.coco import read_coco
from repfusion_mm.own_images.labels.masks import read_masks


def read_labels(
    images: Images,
    labels: Optional[str],
    masks: Optional[str],
    coco: Optional[str],
) -> Optional[Labels]:
    """Read the labels that the options name, if any.

    Args:
        images: The images.
        labels: ``'folders'``, or the path of a list.
        masks: A folder of label maps.
        coco: A COCO file.
    """
    if labels == 'folders':
        return read_folders(images)
    if labels:
        return read_list_file(images, labels)
    if masks:
        return read_masks(images, masks)
    if coco:
        return read_coco(images, coco)
    return None
