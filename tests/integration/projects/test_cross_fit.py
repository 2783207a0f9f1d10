"""Rewards by decoders that were not fitted on the image."""

import torch
from cross_fit import CrossFitDecoder
from mmpretrain.structures import DataSample

FEAT = torch.randn(6, 8, 2, 2)


def decoder():
    return CrossFitDecoder(num_folds=3, num_classes=4, in_channels=8)


def sample(i):
    meta = dict(img_path=f'{i}.png')
    return DataSample(metainfo=meta).set_gt_label(i % 4)


def test_the_reward_is_that_of_a_decoder_not_fitted_on_the_image():
    net = decoder()
    for i in range(6):
        losses, labelled = net.loss(FEAT[i : i + 1], [sample(i)])
        assert labelled.tolist() == [True]
        own = net.fold(sample(i))
        expected, _ = net.decoders[own].loss(FEAT[i : i + 1], [sample(i)])
        torch.testing.assert_close(losses, expected)
        net.zero_grad()
        losses.sum().backward()
        for fold, part in enumerate(net.decoders):
            moved = any(p.grad.abs().sum() > 0 for p in part.parameters())
            assert moved == (fold != own)


def test_folds_share_the_images():
    net = decoder()
    folds = torch.tensor([net.fold(sample(i)) for i in range(300)])
    assert torch.bincount(folds).min() > 70
