"""Read the keypoints or boxes of a COCO file."""

from __future__ import annotations

from collections import Counter
from typing import Dict, List

import numpy as np

from repfusion_mm.analysis.probe.tasks.base import MIN_IMAGES
from repfusion_mm.datasets.transforms.boxes_to_mask import IGNORED
from repfusion_mm.own_images.images import Images, read_sizes
from repfusion_mm.own_images.labels.base import (
    Labels,
    check_names,
    find_path,
    find_repeated,
)
from repfusion_mm.own_images.labels.coco_file import (
    NUMBER,
    POINTS,
    check_fields,
    load_coco,
)

#: Side of a keypoint's crop, relative to its box (GetBBoxCenterScale).
PADDING = 1.25
#: Visibility above which a keypoint counts (RegressionLabel).
VISIBLE = 0.5


def read_coco(images: Images, path: str) -> Labels:
    """Read a COCO file; it is of keypoints if an annotation has some.

    Raises:
        ValueError: It is not such a file, its images are not those of the
            folder, or it does not label enough.
    """
    path = find_path('--coco', path)
    content = load_coco(path)
    check_names(images, [i['file_name'] for i in content['images']], path)
    check_sizes(images, content['images'], path)
    if any(i.get('keypoints') for i in content['annotations']):
        return describe_keypoints(path, content)
    return describe_boxes(path, content)


def check_sizes(images: Images, files: List[dict], path: str) -> None:
    """Refuse a COCO file of images of other sizes."""
    sizes = read_sizes(images.root, [i['file_name'] for i in files])
    for file, size in zip(files, sizes):
        stated = file['width'], file['height']
        if stated != size:
            raise ValueError(
                f'expected the sizes of the images in {path}, got '
                f'{stated[0]} x {stated[1]} for {file["file_name"]!r}, which '
                f'has {size[0]} x {size[1]}; were the images resized, or '
                'rotated (EXIF), after they were labeled?'
            )


def describe_boxes(path: str, content: Dict[str, List[dict]]) -> Labels:
    """Check that there are boxes that count, and few enough classes."""
    files = {i['id']: i for i in content['images']}
    annotations, categories = content['annotations'], content['categories']
    check_fields(path, 'annotations', annotations, dict(area=NUMBER))
    boxes = [i for i in annotations if counts_box(i, files[i['image_id']])]
    if not boxes or len(files) < MIN_IMAGES:
        raise ValueError(
            f'expected boxes or keypoints in {path}, in {MIN_IMAGES} images '
            f'or more, got {len(boxes)} boxes that count among '
            f'{len(annotations)} annotations of {len(files)} images (those of '
            'iscrowd or ignore, or without an area of a pixel in the image do '
            'not count); label more images'
        )
    if len(categories) >= IGNORED:
        raise ValueError(
            f'expected less than {IGNORED} categories in {path}, got '
            f'{len(categories)}: the probe draws boxes as label maps of 8 '
            'bits; merge categories'
        )
    return Labels(
        'boxes', path, tuple(i['name'] for i in categories),
        text=f'{len(boxes)} boxes of {len(categories)} classes in '
        f'{len(files)} images',
    )  # fmt: skip


def counts_box(annotation: dict, file: dict) -> bool:
    """Tell whether mmdet's ``CocoDataset`` takes a box of an image."""
    x, y, width, height = annotation['bbox']
    inner_width = min(x + width, file['width']) - max(x, 0)
    inner_height = min(y + height, file['height']) - max(y, 0)
    return (
        min(inner_width, inner_height) > 0
        and min(width, height) >= 1
        and annotation['area'] > 0
        and not annotation.get('iscrowd')
        and not annotation.get('ignore')
    )


def describe_keypoints(path: str, content: Dict[str, List[dict]]) -> Labels:
    """Check that instances have the same number of keypoints, and enough."""
    files = {i['id']: i for i in content['images']}
    # mmpose leaves out annotations without the field.
    annotations = [i for i in content['annotations'] if 'keypoints' in i]
    check_fields(path, 'annotations', annotations, dict(keypoints=POINTS))
    annotations = [i for i in annotations if i['keypoints']]
    counts = Counter(len(i['keypoints']) // 3 for i in annotations)
    (number, _), *others = counts.most_common()
    if others:
        raise ValueError(
            f'expected the same number of keypoints (x, y, visibility) in all '
            f'annotations of {path}, got {dict(counts)}; use a file for each '
            'category'
        )
    seen = [counts_points(i, files[i['image_id']]) for i in annotations]
    counted = [i for i, points in zip(annotations, seen) if points.any()]
    if len(counted) < MIN_IMAGES or np.sum(seen, 0).max() < 2:
        raise ValueError(
            f'expected {MIN_IMAGES} instances or more with keypoints that '
            f'count in {path}, two of them with the same one, got '
            f'{len(counted)} of {len(annotations)} (keypoints count if their '
            'visibility is 1 or 2 and they are in the box of their instance, '
            'enlarged to a square; instances of iscrowd do not); label more '
            'images, or correct the coordinates'
        )
    check_repeated_instances(path, counted)
    named = [
        i['keypoints'] for i in content['categories'] if i.get('keypoints')
    ]
    names = named[0] if named and len(named[0]) == number else range(number)
    return Labels(
        'keypoints', path, tuple(map(str, names)),
        text=f'{len(counted)} instances of {number} keypoints in '
        f'{len({i["image_id"] for i in counted})} images',
    )  # fmt: skip


def counts_points(annotation: dict, file: dict) -> np.ndarray:
    """Tell which keypoints of an instance count in its crop.

    They are the ones of ``mmpose.BaseCocoStyleDataset`` that are in the square
    crop of the probe.
    """
    x, y, width, height = annotation['bbox']
    limits = np.array([file['width'], file['height']]) - 1
    corners = np.clip([[x, y], [x + width, y + height]], 0, limits)
    sides = corners[1] - corners[0]
    points = np.reshape(annotation['keypoints'], (-1, 3)).astype(float)
    is_taken = (
        min(sides) > 0
        and annotation.get('num_keypoints') != 0
        and not annotation.get('iscrowd')
    )
    # A comparison with NaN is false.
    distances = np.abs(points[:, :2] - corners.mean(0))
    inside = (distances <= max(sides) * PADDING / 2).all(1)
    return inside & (points[:, 2] > VISIBLE) & is_taken


def check_repeated_instances(path: str, annotations: List[dict]) -> None:
    """Refuse instances that are in the file more than once."""
    fields = ('image_id', 'bbox', 'keypoints')
    repeated = find_repeated(str([i[f] for f in fields]) for i in annotations)
    if repeated:
        raise ValueError(
            f'expected each instance once in {path}, got {len(repeated)} '
            f'whose {", ".join(fields)} are repeated, such as {repeated[0]}; '
            'remove the repeats: the probe is scored on images that it is not '
            'fitted to'
        )
