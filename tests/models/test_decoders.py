import pytest
import torch
import torch.nn.functional as F

from repfusion_mm.models import ClsDecoder
from tests.toy import batch

FEAT = torch.randn(4, 6, 2, 2)


def decoder(num_classes=10):
    return ClsDecoder(num_classes, in_channels=6, hidden_channels=(8,))


def test_loss_is_the_cross_entropy_of_each_labelled_image():
    net = decoder()
    samples = batch(4, labels=[3, None, 9, 0])['data_samples']
    losses, labelled = net.loss(FEAT, samples)
    expected = F.cross_entropy(
        net(FEAT), torch.tensor([3, 0, 9, 0]), reduction='none'
    )
    assert labelled.tolist() == [True, False, True, True]
    torch.testing.assert_close(losses[labelled], expected[labelled])
    assert losses[1] == 0


def test_images_without_samples_are_unlabelled():
    losses, labelled = decoder().loss(FEAT, None)
    assert losses.tolist() == [0.0] * 4
    assert not labelled.any()


def test_labels_beyond_the_classes_are_refused():
    samples = batch(4, labels=[3, 1, 9, 0])['data_samples']
    with pytest.raises(ValueError, match=r'num_classes=9, got \[9\]'):
        decoder(9).loss(FEAT, samples)


def test_several_and_soft_labels_are_refused():
    samples = batch(4)['data_samples']
    samples[2].set_gt_label([1, 2])
    with pytest.raises(ValueError, match=r'got \[1, 2\]'):
        decoder().loss(FEAT, samples)
    samples[0].set_gt_score(torch.full((10,), 0.1))
    with pytest.raises(ValueError, match='got gt_score'):
        decoder().loss(FEAT, samples)
