"""A student without feature maps: the setting that gives maps is named."""

import re

import pytest
from mmengine.registry import MODELS

from repfusion_mm.models.distillers.builders import infer_feature_shapes


@pytest.mark.parametrize(
    ('config', 'setting', 'value'),
    [
        (dict(type='ConvNeXt', arch='atto'), 'gap_before_final_norm', False),
        (dict(type='EdgeNeXt', arch='xxsmall'), 'gap_before_final_norm', 0),
        (
            dict(type='VisionTransformer', arch='deit-t', img_size=64),
            'out_type',
            'featmap',
        ),
    ],
)
def test_the_setting_that_returns_maps_is_named(config, setting, value):
    config = dict(config, type=f'mmpretrain.{config["type"]}')
    named = re.escape(f'set model.student.{setting}=') + r'\S+$'
    with pytest.raises(ValueError, match=named):
        infer_feature_shapes(MODELS.build(dict(config)), [-1], (64, 64))
    student = MODELS.build(dict(config, **{setting: value}))
    assert len(infer_feature_shapes(student, [-1], (64, 64))[0]) == 3


def test_without_such_a_setting_another_backbone_is_advised():
    config = dict(type='mmpretrain.TNT', arch='s', img_size=32)
    with pytest.raises(ValueError, match='to a backbone that returns'):
        infer_feature_shapes(MODELS.build(config), [-1], (32, 32))
