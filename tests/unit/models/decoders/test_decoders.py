import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from mmengine.structures import InstanceData, PixelData
from mmpose.codecs import MSRAHeatmap
from mmpose.structures import PoseDataSample
from mmseg.structures import SegDataSample

from repfusion_mm.models import ClsDecoder, KeypointDecoder, SegDecoder
from tests.helpers.toy import batch

FEAT = torch.randn(4, 6, 2, 2)


def decoder(num_classes=10):
    return ClsDecoder(num_classes, in_channels=6, hidden_channels=(8,))


def test_loss_is_the_cross_entropy_of_each_labeled_image():
    net = decoder()
    samples = batch(4, labels=[3, None, 9, 0])['data_samples']
    losses, labeled = net.loss(FEAT, samples)
    expected = F.cross_entropy(
        net(FEAT), torch.tensor([3, 0, 9, 0]), reduction='none'
    )
    assert labeled.tolist() == [True, False, True, True]
    torch.testing.assert_close(losses[labeled], expected[labeled])
    assert losses[1] == 0


def test_images_without_samples_are_unlabeled():
    losses, labeled = decoder().loss(FEAT, None)
    assert losses.tolist() == [0.0] * 4
    assert not labeled.any()


def test_labels_beyond_the_classes_are_refused():
    samples = batch(4, labels=[3, 1, 9, 0])['data_samples']
    with pytest.raises(ValueError, match=r'num_classes=9, got \[9\]'):
        decoder(9).loss(FEAT, samples)


def test_several_labels_are_refused_without_multi_label():
    samples = batch(4)['data_samples']
    samples[2].set_gt_label([1, 2])
    with pytest.raises(ValueError, match=r'got 2; set .*multi_label'):
        decoder().loss(FEAT, samples)


def test_soft_labels_weight_the_cross_entropy():
    """mmpretrain's mixup and CutMix create such labels."""
    net = decoder()
    samples = batch(4, labels=[3, None, 9, None])['data_samples']
    score = torch.zeros(10)
    score[[2, 7]] = torch.tensor([0.3, 0.7])
    samples[1].set_gt_score(score)
    losses, labeled = net.loss(FEAT, samples)
    log_probs = net(FEAT).log_softmax(1)
    expected = -(0.3 * log_probs[1, 2] + 0.7 * log_probs[1, 7])
    torch.testing.assert_close(losses[1], expected)
    torch.testing.assert_close(losses[2], -log_probs[2, 9])
    assert labeled.tolist() == [True, True, True, False]
    with pytest.raises(ValueError, match='10 values, got 4'):
        samples[0].set_gt_score(torch.ones(4) / 4)
        net.loss(FEAT, samples)


def test_mixed_batches_of_mmpretrain_are_accepted():
    preprocessor = MODELS.build(
        dict(
            type='mmpretrain.ClsDataPreprocessor',
            num_classes=10,
            to_onehot=True,
            batch_augments=dict(augments=dict(type='Mixup', alpha=1.0)),
        )
    )
    mixed = preprocessor(batch(4), training=True)
    losses, labeled = decoder().loss(FEAT, mixed['data_samples'])
    assert labeled.all()
    assert losses.isfinite().all()


def test_multi_label_loss_is_the_binary_cross_entropy():
    net = ClsDecoder(10, in_channels=6, multi_label=True)
    samples = batch(4, labels=[3, None, 0, 0])['data_samples']
    samples[3].set_gt_label([1, 2])
    losses, labeled = net.loss(FEAT, samples)
    targets = torch.zeros(4, 10)
    targets[0, 3] = targets[2, 0] = targets[3, 1] = targets[3, 2] = 1
    expected = F.binary_cross_entropy_with_logits(
        net(FEAT), targets, reduction='none'
    ).mean(1)
    torch.testing.assert_close(losses[labeled], expected[labeled])
    assert losses[1] == 0


def test_all_labels_of_a_data_set_are_checked():
    decoder(10).check_labels([3, np.array([9]), 0])
    decoder(10).check_labels([])
    with pytest.raises(ValueError, match=r'num_classes=9, got \[9, 11\]'):
        decoder(9).check_labels([3, 9, 11, 9])
    with pytest.raises(ValueError, match=r'one class label .* got 2'):
        decoder(9).check_labels([3, [1, 2]])
    ClsDecoder(9, 6, multi_label=True).check_labels([3, [1, 2], []])
    KeypointDecoder(5, 6).check_labels([np.zeros((1, 5, 2))])
    with pytest.raises(ValueError, match='expected 5 key points'):
        KeypointDecoder(5, 6).check_labels([np.zeros((1, 4, 2))])


def seg_samples(maps):
    samples = [SegDataSample() for _ in maps]
    for sample, label_map in zip(samples, maps):
        if label_map is not None:
            sample.gt_sem_seg = PixelData(data=label_map[None])
    return samples


def test_pixels_are_averaged_within_each_image():
    net = SegDecoder(3, in_channels=6)
    maps = torch.randint(0, 3, (4, 8, 8))
    maps[1] = 255
    maps[2, :4] = 255
    samples = seg_samples([maps[0], maps[1], maps[2], None])
    losses, labeled = net.loss(FEAT, samples)
    assert labeled.tolist() == [True, False, True, False]
    logits = F.interpolate(net(FEAT), size=(8, 8), mode='bilinear')
    for i in (0, 2):
        expected = F.cross_entropy(
            logits[i : i + 1], maps[i : i + 1], ignore_index=255
        )
        torch.testing.assert_close(losses[i], expected)
    assert losses[[1, 3]].tolist() == [0.0, 0.0]
    losses.sum().backward()
    with pytest.raises(ValueError, match=r'in \[0, 2\] .*got \[7\]'):
        net.loss(FEAT, seg_samples([maps[0] * 0 + 7]))


def test_batches_without_a_label_map_train():
    net = SegDecoder(3, in_channels=6, hidden_channels=(4,))
    for samples in (None, seg_samples([None] * 4)):
        losses, labeled = net.loss(FEAT, samples)
        assert losses.tolist() == [0.0] * 4
        assert not labeled.any()
        losses.sum().backward()


def pose_samples(points, weights, size=64):
    """Encode key points, relative to the image, with mmpose's codec."""
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
            'expected 5 key points, for decoder.num_keypoints, got 3',
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


MAPS = [torch.zeros(8, 8, dtype=torch.long)] * 4
ALL = dict(
    ClsDecoder=(ClsDecoder(10, 6), lambda: batch(4)['data_samples']),
    SegDecoder=(SegDecoder(3, 6), lambda: seg_samples(MAPS)),
    KeypointDecoder=(
        KeypointDecoder(5, 6),
        lambda: pose_samples(torch.full((4, 5, 2), 0.5), torch.ones(4, 5)),
    ),
)


@pytest.mark.parametrize('other', ALL)
@pytest.mark.parametrize('name', ALL)
def test_labels_of_another_task_are_refused(name, other):
    net, samples = ALL[name][0], ALL[other][1]()
    if name == other:
        assert net.loss(FEAT, samples)[1].all()
        return
    kind = type(samples[0]).__name__
    with pytest.raises(ValueError, match=f'for {name}, got {kind} .*{other}'):
        net.loss(FEAT, samples)
