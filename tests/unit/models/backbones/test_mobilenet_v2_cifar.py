import pytest
import torch
from mmengine.registry import MODELS


@pytest.mark.parametrize(('size', 'grid'), [(32, 4), (64, 8)])
def test_stride_is_eight(size, grid):
    net = MODELS.build(dict(type='repfusion_mm.MobileNetV2_CIFAR'))
    feats = net(torch.zeros(2, 3, size, size))
    assert [tuple(feat.shape) for feat in feats] == [(2, 1280, grid, grid)]


def test_strides_are_those_of_the_reference_implementation():
    net = MODELS.build(
        dict(type='repfusion_mm.MobileNetV2_CIFAR', out_indices=range(8))
    )
    sides = [feat.shape[-1] for feat in net(torch.zeros(1, 3, 32, 32))]
    assert sides == [32, 16, 16, 8, 8, 4, 4, 4]


def test_weight_shapes_equal_those_of_mmpretrain():
    ours, theirs = (
        MODELS.build(dict(type=kind)).state_dict()
        for kind in (
            'repfusion_mm.MobileNetV2_CIFAR',
            'mmpretrain.MobileNetV2',
        )
    )
    assert {k: v.shape for k, v in ours.items()} == {
        k: v.shape for k, v in theirs.items()
    }
