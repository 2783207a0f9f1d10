"""Read the labels of a batch, and tell which of them count.

The decoders, the class signal of a teacher and the probe share these
functions. A label does not count if it is missing, or is

- the class -1 (:data:`UNLABELED`),
- a pixel of the class ``ignore_index``,
- a keypoint of weight 0, outside the image, or with coordinates that are NaN,
- a box that is ignored (``iscrowd``), or that has no area in the image.

None of these functions synchronizes with the device of the labels.
"""

from __future__ import annotations

from typing import Any, List, Optional, Sequence, Tuple

import torch

#: The class of images without a label, as in mmpretrain.
UNLABELED = -1
#: The class of boxes that are ignored.
IGNORED_BOX = -2


def read_classes(sample: Any) -> Optional[torch.Tensor]:
    """Return the class indices of a sample, or None without ``gt_label``.

    Raises:
        ValueError: They are not integers.
    """
    if 'gt_label' not in sample:
        return None
    label = torch.as_tensor(sample.gt_label).flatten()
    if label.numel() and (label.is_floating_point() or label.is_complex()):
        raise ValueError(
            f'expected integers in gt_label, got {label.dtype}'
            f'{image_name(sample)}; give probabilities as gt_score'
        )
    return label.long()


def read_class(sample: Any) -> Optional[torch.Tensor]:
    """Return the class of a sample (one integer), or None without a label.

    Raises:
        ValueError: An image has several classes, or none.
    """
    classes = read_classes(sample)
    if classes is not None and len(classes) != 1:
        raise ValueError(
            'expected one class label for an image, got '
            f'{classes.tolist()}{image_name(sample)}'
        )
    return classes


def read_labels(
    data_samples: Optional[Sequence], num_images: int
) -> torch.Tensor:
    """Return N integers: the class of each image, ``UNLABELED`` for others.

    Samples without ``gt_label`` are unlabeled; None means that all are.

    Raises:
        ValueError: An image has several classes or soft labels.
    """
    samples = data_samples or [{}] * num_images
    if any('gt_score' in sample for sample in samples):
        raise ValueError(
            'expected hard labels, got gt_score; remove batch_augments '
            'and to_onehot from the data preprocessor'
        )
    labels = [read_class(sample) for sample in samples]
    return torch.cat(fill_in(labels, torch.tensor([UNLABELED])))


def read_map(sample: Any) -> Optional[torch.Tensor]:
    """Return the 1 x H x W classes of pixels, or None without ``gt_sem_seg``.

    The map is the field ``data``, as in mmseg, or ``sem_seg``, as in mmdet.

    Raises:
        ValueError: There is more than one channel.
    """
    if 'gt_sem_seg' not in sample:
        return None
    maps = sample.gt_sem_seg
    label_map = maps.sem_seg if 'sem_seg' in maps else maps.data
    if label_map.dim() != 3 or len(label_map) != 1:
        raise ValueError(
            'expected gt_sem_seg of 1 x H x W class indices, got '
            f'{tuple(label_map.shape)}{image_name(sample)}; store the index '
            'of the class of each pixel'
        )
    return label_map


def count_classes(labels: torch.Tensor, ignored: int) -> torch.Tensor:
    """Return which class indices, of images or of pixels, count."""
    return labels != ignored


def read_points(sample: Any) -> Optional[torch.Tensor]:
    """Return the K x 3 keypoints (x, y, weight) of a sample's instance.

    The coordinates are relative to the sides of the image. None is returned
    without an instance.

    Raises:
        ValueError: There are several instances, or labels of another codec.
    """
    labels = sample.get('gt_instance_labels')
    if not labels:
        return None
    if len(labels) > 1:
        raise ValueError(
            f'expected one instance in an image, got {len(labels)}'
            f"{image_name(sample)}; crop the instances (data_mode='topdown' "
            'and TopdownAffine)'
        )
    if 'keypoint_labels' in labels:
        points = torch.as_tensor(labels.keypoint_labels)[0]
    elif 'gt_fields' in sample and 'heatmaps' in sample.gt_fields:
        points = find_peaks(sample.gt_fields.heatmaps)
    else:
        points = None
    if points is None or 'keypoint_weights' not in labels:
        raise ValueError(
            'expected keypoint_labels or heatmaps, and keypoint_weights, in '
            f'the data samples, got {labels.keys()}{image_name(sample)}; set '
            'the encoder of GenerateTarget to RegressionLabel or MSRAHeatmap'
        )
    weights = torch.as_tensor(labels.keypoint_weights).reshape(-1, 1)
    if points.shape != (len(weights), 2):
        raise ValueError(
            'expected K x 2 coordinates and K weights of keypoints, got '
            f'{tuple(points.shape)} and {len(weights)}{image_name(sample)}; '
            'set the encoder of GenerateTarget to RegressionLabel or '
            'MSRAHeatmap'
        )
    return torch.cat([points, weights.to(points)], dim=1)


def find_peaks(heatmaps: torch.Tensor) -> torch.Tensor:
    """Return the K x 2 coordinates of the maxima of K x H x W heatmaps."""
    height, width = heatmaps.shape[-2:]
    index = heatmaps.flatten(1).argmax(1)
    y = torch.div(index, width, rounding_mode='floor') / height
    return torch.stack([index % width / width, y], dim=1)


def count_points(points: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """Split ... x 3 keypoints into coordinates (... x 2) and weights.

    Coordinates and weights of keypoints that do not count are zero.
    """
    coords, weights = points[..., :2], points[..., 2]
    # A comparison with NaN is false.
    counts = ((coords >= 0) & (coords <= 1)).all(-1) & (weights > 0)
    return (
        coords.masked_fill(~counts[..., None], 0),
        weights.masked_fill(~counts, 0),
    )


def read_boxes(sample: Any) -> Optional[torch.Tensor]:
    """Return the B x 5 boxes (x1, y1, x2, y2, class) of a sample, or None
    without one.

    The corners are relative to the sides of the padded image. Ignored boxes
    have the class ``IGNORED_BOX``.

    Raises:
        ValueError: The boxes have no classes, or the size of the image is
            unknown.
    """
    found = []
    for field in ('gt_instances', 'ignored_instances'):
        instances = sample.get(field)
        if instances is None or 'bboxes' not in instances or not instances:
            continue
        corners = torch.as_tensor(
            getattr(instances.bboxes, 'tensor', instances.bboxes)
        ).float()
        if 'labels' not in instances:
            raise ValueError(
                f'expected boxes with classes, got none{image_name(sample)}; '
                'set with_label=True of LoadAnnotations'
            )
        classes = torch.as_tensor(instances.labels).to(corners)
        if field == 'ignored_instances':
            classes = torch.full_like(classes, IGNORED_BOX)
        found.append(torch.cat([corners, classes[:, None]], dim=1))
    if not found:
        return None
    shape = sample.get('batch_input_shape') or sample.get('img_shape')
    if shape is None:
        raise ValueError(
            'expected img_shape in data samples with boxes, got none'
            f"{image_name(sample)}; add 'img_shape' to meta_keys of "
            'PackDetInputs'
        )
    height, width = shape[:2]
    boxes = torch.cat(found)
    boxes[:, 0:4:2] /= width
    boxes[:, 1:4:2] /= height
    return boxes


def count_boxes(
    boxes: torch.Tensor,
) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Split ... x 5 boxes into corners, classes, and booleans: which count.

    Corners are clipped to the image.
    """
    corners, classes = boxes[..., :4].clamp(0, 1), boxes[..., 4].long()
    sides = (corners[..., 2:] - corners[..., :2]).amin(-1)
    return corners, classes, (classes >= 0) & (sides > 0)


def fill_in(
    labels: Sequence[Optional[torch.Tensor]], default: torch.Tensor
) -> List[torch.Tensor]:
    """Replace each None by ``default``, on the device of the other labels."""
    device = next((i.device for i in labels if i is not None), 'cpu')
    default = default.to(device, non_blocking=True)
    return [default if label is None else label for label in labels]


def image_name(sample: Any) -> str:
    """Return ``' in PATH'`` for error messages, if a sample has a path."""
    path = sample.get('img_path')
    return f' in {path}' if path else ''
