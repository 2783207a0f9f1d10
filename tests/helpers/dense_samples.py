"""Data samples of mmseg, mmpose and mmdet."""

import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.structures import InstanceData, PixelData
from mmpose.codecs import MSRAHeatmap
from mmpose.structures import PoseDataSample
from mmseg.structures import SegDataSample


def seg_samples(maps):
    """Return a sample for each label map; None leaves one unlabeled."""
    samples = [SegDataSample() for _ in maps]
    for sample, label_map in zip(samples, maps):
        if label_map is not None:
            sample.gt_sem_seg = PixelData(data=label_map[None])
    return samples


def pose_samples(points, weights, size=64):
    """Return samples with heatmaps of mmpose's codec.

    Args:
        points: N x K x 2 in [0, 1], relative to the sides of the image.
        weights: N x K.
        size: Side of the heatmaps.
    """
    codec = MSRAHeatmap(
        input_size=(256, 256), heatmap_size=(size, size), sigma=2
    )
    samples = []
    for point, weight in zip(points, weights):
        encoded = codec.encode(point[None].numpy() * 256, weight[None].numpy())
        sample = PoseDataSample()
        sample.gt_instance_labels = InstanceData(
            keypoint_weights=torch.tensor(encoded['keypoint_weights'])
        )
        sample.gt_fields = PixelData(
            heatmaps=torch.tensor(encoded['heatmaps'])
        )
        samples.append(sample)
    return samples


def det_samples(boxes, ignored=None, size=(64, 64)):
    """Return samples as mmdet's PackDetInputs makes them.

    Args:
        boxes: A list of (x1, y1, x2, y2, class) in pixels for each image.
        ignored: The same for ignored boxes.
        size: Height and width of the images.
    """
    samples = []
    for own, others in zip(boxes, ignored or [[]] * len(boxes)):
        sample = DetDataSample(metainfo=dict(img_shape=size))
        for field, rows in (
            ('gt_instances', own),
            ('ignored_instances', others),
        ):
            rows = torch.tensor(rows, dtype=torch.float).reshape(-1, 5)
            instances = InstanceData(
                bboxes=HorizontalBoxes(rows[:, :4]), labels=rows[:, 4].long()
            )
            sample.set_field(instances, field)
        samples.append(sample)
    return samples
