import pytest
import torch
from mmengine.structures import InstanceData

from repfusion_mm.models import KeypointDecoder
from tests.helpers.dense_samples import pose_samples

FEAT = torch.randn(4, 6, 2, 2)


def test_errors_of_key_points_are_weighted_and_averaged():
    net = KeypointDecoder(5, in_channels=6)
    points = torch.randint(8, 56, (4, 5, 2)) / 64
    weights = torch.ones(4, 5)
    weights[1] = 0
    weights[2, :3] = 0
    losses, labeled = net.loss(FEAT, pose_samples(points, weights))
    assert labeled.tolist() == [True, False, True, True]
    errors = (net(FEAT) - points).abs().sum(-1)
    torch.testing.assert_close(losses[0], errors[0].mean())
    torch.testing.assert_close(losses[2], errors[2, 3:].mean())
    assert losses[1] == 0
    losses, labeled = net.loss(FEAT, None)
    assert not labeled.any()


def test_coordinates_and_heatmaps_are_equivalent_labels():
    net = KeypointDecoder(5, in_channels=6)
    points = torch.randint(8, 56, (4, 5, 2)) / 64
    samples = pose_samples(points, torch.ones(4, 5))
    from_heatmaps, _ = net.loss(FEAT, samples)
    for sample, point in zip(samples, points):
        del sample.gt_fields
        sample.gt_instance_labels.keypoint_labels = point[None]
    from_coordinates, _ = net.loss(FEAT, samples)
    torch.testing.assert_close(from_heatmaps, from_coordinates)


def test_a_peak_on_the_grid_is_located():
    net = KeypointDecoder(1, in_channels=1)
    torch.nn.init.constant_(net.convs[0].weight, 100.0)
    feat = torch.zeros(1, 1, 4, 8)
    feat[0, 0, 1, 6] = 1
    expected = torch.tensor([[[6.5 / 8, 1.5 / 4]]])
    torch.testing.assert_close(net(feat), expected)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            lambda s: s.gt_instance_labels.set_field(
                torch.zeros(1, 3, 2), 'keypoint_labels'
            ),
            'expected K x 2 coordinates and K weights',
        ),
        (lambda s: s.__delattr__('gt_fields'), 'RegressionLabel or MSRA'),
        (
            lambda s: setattr(
                s,
                'gt_instance_labels',
                InstanceData(keypoint_weights=torch.ones(2, 5)),
            ),
            'expected one instance in an image, got 2',
        ),
    ],
)
def test_invalid_key_points_are_refused(change, message):
    points = torch.full((4, 5, 2), 0.5)
    samples = pose_samples(points, torch.ones(4, 5))
    change(samples[0])
    with pytest.raises(ValueError, match=message):
        KeypointDecoder(5, in_channels=6).loss(FEAT, samples)
