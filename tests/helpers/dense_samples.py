"""Data samples of mmseg and mmpose."""

import torch
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
