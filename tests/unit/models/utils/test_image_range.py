import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.model import ImgDataPreprocessor
from mmengine.registry import MODELS

from repfusion_mm.models.utils.image_range import (
    resolve_channel_order,
    to_unit_range,
)
from tests.helpers.strategies import seeds

IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
# As loaded: BGR, 8 bit.
LOADED = torch.randint(0, 256, (2, 3, 4, 5)).to(torch.uint8)
RGB = LOADED.flip(1) / 255


@pytest.mark.parametrize(
    'config',
    [
        dict(type='mmengine.ImgDataPreprocessor', bgr_to_rgb=True, **IMAGENET),
        dict(type='mmpretrain.ClsDataPreprocessor', to_rgb=True, **IMAGENET),
        dict(type='mmpretrain.ClsDataPreprocessor', to_rgb=True),
    ],
)
def test_images_are_rebuilt_from_normalized_inputs(config):
    """The reference implementation gives the teacher normalized images."""
    preprocessor = MODELS.build(config)
    inputs = preprocessor(dict(inputs=list(LOADED)))['inputs']
    order = resolve_channel_order(None, config)
    images = to_unit_range(inputs, preprocessor, order)
    torch.testing.assert_close(images, RGB, atol=1e-6, rtol=0)
    assert images.min() >= 0 and images.max() <= 1


def test_images_are_rgb_for_students_that_get_bgr():
    config = dict(type='mmengine.ImgDataPreprocessor', **IMAGENET)
    preprocessor = MODELS.build(config)
    inputs = preprocessor(dict(inputs=list(LOADED)))['inputs']
    order = resolve_channel_order('bgr', config)
    images = to_unit_range(inputs, preprocessor, order)
    torch.testing.assert_close(images, RGB, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ('declared', 'config'),
    [
        (None, dict(to_rgb=False)),
        (None, None),
        ('bgr', dict(bgr_to_rgb=True)),
        ('rgb', dict(rgb_to_bgr=True)),
        ('gbr', dict()),
    ],
)
def test_invalid_channel_orders_are_refused(declared, config):
    with pytest.raises(ValueError, match='channel_order to be one of'):
        resolve_channel_order(declared, config)


@given(
    seeds,
    st.lists(st.floats(0, 255), min_size=3, max_size=3),
    st.lists(st.floats(1, 255), min_size=3, max_size=3),
    st.booleans(),
)
def test_images_are_recovered_from_any_normalization(seed, mean, std, convert):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (2, 3, 4, 4), generator=generator)
    preprocessor = ImgDataPreprocessor(mean, std, bgr_to_rgb=convert)
    inputs = preprocessor(dict(inputs=list(images.to(torch.uint8))))['inputs']
    found = to_unit_range(inputs, preprocessor, 'rgb' if convert else 'bgr')
    torch.testing.assert_close(found, images.flip(1) / 255, atol=1e-4, rtol=0)
