import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS

from repfusion_mm.models import ClsDecoder, KeypointDecoder
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
    with pytest.raises(ValueError, match=r'num_classes=9, .* got \[9\]'):
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


def test_all_labels_of_a_dataset_are_checked():
    decoder(10).check_labels([3, np.array([9]), 0])
    decoder(10).check_labels([])
    with pytest.raises(ValueError, match=r'num_classes=9, .* got \[9, 11\]'):
        decoder(9).check_labels([3, 9, 11, 9])
    with pytest.raises(ValueError, match=r'one class label .* got 2'):
        decoder(9).check_labels([3, [1, 2]])
    ClsDecoder(9, 6, multi_label=True).check_labels([3, [1, 2], []])
    KeypointDecoder(5, 6).check_labels([np.zeros((1, 5, 2))])
