import pytest
import torch.nn as nn
from mmengine.registry import MODELS

from repfusion_mm.models.distillers.builders import (
    build_policy,
    infer_feature_shapes,
)


class Student(nn.Module):
    """One convolution, whose map is returned in any layout."""

    def __init__(self, channels, stride=4, layout='nchw', sizes=None):
        super().__init__()
        self.conv = nn.Conv2d(3, channels, stride, stride)
        self.layout = layout
        self.sizes = sizes

    def forward(self, x):
        if self.sizes and x.shape[-1] not in self.sizes:
            raise RuntimeError('an image of another size')
        x = self.conv(x)
        return (x.permute(0, 2, 3, 1) if self.layout == 'nhwc' else x,)


@pytest.mark.parametrize('size', [16, 32])
@pytest.mark.parametrize('channels', [1, 2, 4, 5, 8, 16, 32])
def test_the_layout_of_maps_is_read_from_their_axes(channels, size):
    """Also where channels, height and width are equal (4, 8)."""
    side = size // 4
    student = Student(channels)
    assert infer_feature_shapes(student, [0], size) == [(channels, side, side)]
    assert student.training
    with pytest.raises(ValueError, match='channels are last'):
        infer_feature_shapes(Student(channels, layout='nhwc'), [0], size)


def test_students_of_one_size_and_maps_of_one_pixel_are_taken():
    student = Student(4, sizes=[16])
    assert infer_feature_shapes(student, [0], 16) == [(4, 4, 4)]
    assert infer_feature_shapes(Student(1, 16), [0], 16) == [(1, 1, 1)]


def test_timms_swin_is_refused():
    pytest.importorskip('timm')
    student = MODELS.build(
        dict(
            type='mmpretrain.TIMMBackbone',
            model_name='swin_tiny_patch4_window7_224',
            features_only=True,
            embed_dim=12,
            depths=(1, 1, 1, 1),
        )
    )
    with pytest.raises(ValueError, match='N x 7 x 7 x 96, whose channels'):
        infer_feature_shapes(student, [-1], 224)


@pytest.mark.parametrize('policy', ['Learned', 'Uniform'])
def test_a_teacher_of_one_timestep_needs_the_fixed_policy(policy):
    config = dict(type=f'repfusion_mm.{policy}TimestepPolicy', low=50)
    with pytest.raises(ValueError, match=f'nothing to choose, got {policy}'):
        build_policy(config, num_timesteps=1)
    fixed = dict(type='repfusion_mm.FixedTimestepPolicy')
    for config in (fixed, dict(fixed, timestep=0)):
        assert build_policy(config, 1).timesteps.tolist() == [0]
