import copy

import pytest
import torch
import torch.nn as nn
from mmengine.registry import MODELS

from repfusion_mm.models import (
    AttentionTransferLoss,
    HintLoss,
    RelationalLoss,
)
from repfusion_mm.models.distillers.builders import (
    NORMALIZERS,
    build_normalizers,
    build_policy,
    choose_memory_format,
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


@pytest.mark.parametrize(
    ('channels', 'stride', 'kernel', 'expected'),
    [
        (8, 2, 1, torch.contiguous_format),
        (8, 1, 1, torch.channels_last),
        (8, 2, 3, torch.channels_last),
        (16, 2, 1, torch.channels_last),
    ],
)
def test_no_student_has_wrong_gradients(
    channels, stride, kernel, expected, log
):
    """Those of oneDNN for channels last maps; it can also crash."""
    conv = nn.Conv2d(channels, 16, kernel, stride)
    student = nn.Sequential(conv)
    assert choose_memory_format(student, False) == torch.contiguous_format
    assert choose_memory_format(student, True) == expected
    is_told = any("gradients of ['0']" in r.getMessage() for r in log.records)
    assert is_told == (expected == torch.contiguous_format)
    student.to(memory_format=expected)
    maps = torch.randn(4, channels, 8, 8).to(memory_format=expected)
    output = student(maps)
    output.backward(torch.ones_like(output))
    reference = (
        copy.deepcopy(student)
        .double()
        .to(memory_format=torch.contiguous_format)
    )
    reference.zero_grad()
    reference(maps.double().contiguous()).sum().backward()
    torch.testing.assert_close(
        conv.weight.grad.double(), reference[0].weight.grad,
        rtol=1e-4, atol=1e-4,
    )  # fmt: skip


@pytest.mark.parametrize('size', [16, 32])
@pytest.mark.parametrize('channels', [1, 2, 4, 5, 8, 16, 32])
def test_the_layout_of_maps_is_read_from_their_axes(channels, size):
    """Also where channels, height and width are equal (4, 8)."""
    side = size // 4
    student = Student(channels)
    assert infer_feature_shapes(student, [0], (size, size)) == [
        (channels, side, side)
    ]
    assert student.training
    with pytest.raises(ValueError, match='channels are last'):
        infer_feature_shapes(
            Student(channels, layout='nhwc'), [0], (size, size)
        )


@pytest.mark.parametrize('size', [(32, 24), (32, 16), (16, 32), (28, 56)])
@pytest.mark.parametrize('channels', [4, 6, 7, 8, 14, 16, 32])
def test_the_layout_is_read_from_the_proportions_of_an_image(channels, size):
    height, width = size[0] // 4, size[1] // 4
    assert infer_feature_shapes(Student(channels), [0], size) == [
        (channels, height, width)
    ]
    with pytest.raises(ValueError, match=f'got N x {height} x {width} x '):
        infer_feature_shapes(Student(channels, layout='nhwc'), [0], size)


def test_rounded_proportions_are_taken():
    student = Student(32, stride=5)
    assert infer_feature_shapes(student, [0], (34, 24)) == [(32, 6, 4)]


@pytest.mark.parametrize('indices', [[0], [0, 1]])
def test_maps_of_frozen_layers_are_refused(indices):
    config = dict(
        type='mmpretrain.ResNet', depth=18, out_indices=(0, 1), frozen_stages=1
    )
    with pytest.raises(ValueError, match=r'index 0 .* got frozen layers only'):
        infer_feature_shapes(MODELS.build(config), indices, (32, 32))


def test_parameters_of_the_training_mode_are_not_frozen():
    """In eval mode, TinyViT uses constant copies of its attention biases."""
    config = dict(
        type='mmpretrain.TinyViT',
        arch=dict(channels=[8] * 4, num_heads=[1] * 4, depths=[1] * 4),
        img_size=(64, 64),
        gap_before_final_norm=False,
    )
    student = MODELS.build(config)
    student.unused = nn.Linear(2, 2)
    student.drop = nn.Dropout()
    modes = [module.training for module in student.modules()]
    buffers = {k: v.clone() for k, v in student.named_buffers()}
    state = torch.get_rng_state()
    infer_feature_shapes(student, [-1], (64, 64))
    frozen = {n for n, p in student.named_parameters() if not p.requires_grad}
    assert frozen == {'unused.weight', 'unused.bias'}
    assert [module.training for module in student.modules()] == modes
    assert torch.get_rng_state().equal(state)
    for key, value in student.named_buffers():
        assert value.equal(buffers[key]), key


class OwnNorm(nn.BatchNorm2d):
    pass


class Skipping(nn.Module):
    """Training skips its layer at random."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 4, 4)
        self.skipped = nn.Conv2d(4, 4, 1)
        self.own = OwnNorm(4)

    def forward(self, x):
        x = self.conv(x)
        return (self.own(x) if self.training else self.own(self.skipped(x)),)


def test_layers_that_training_skips_are_not_frozen():
    student = Skipping()
    infer_feature_shapes(student, [0], (4, 4))  # maps of 1 x 1
    assert all(p.requires_grad for p in student.parameters())
    assert student.own.num_batches_tracked == 0
    assert student.own.training


def test_students_of_one_size_and_maps_of_one_pixel_are_taken():
    student = Student(4, sizes=[16])
    assert infer_feature_shapes(student, [0], (16, 16)) == [(4, 4, 4)]
    assert infer_feature_shapes(Student(1, 16), [0], (16, 16)) == [(1, 1, 1)]


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
        infer_feature_shapes(student, [-1], (224, 224))


@pytest.mark.parametrize('policy', ['Learned', 'Uniform'])
def test_a_teacher_of_one_timestep_needs_the_fixed_policy(policy):
    config = dict(type=f'repfusion_mm.{policy}TimestepPolicy', low=50)
    with pytest.raises(ValueError, match=f'nothing to choose, got {policy}'):
        build_policy(config, num_timesteps=1)
    fixed = dict(type='repfusion_mm.FixedTimestepPolicy')
    for config in (fixed, dict(fixed, timestep=0)):
        assert build_policy(config, 1).timesteps.tolist() == [0]


@pytest.mark.parametrize('grid', [dict(low=50, high=50), dict(stride=1000)])
def test_a_policy_that_learns_needs_several_timesteps(grid):
    config = dict(type='repfusion_mm.LearnedTimestepPolicy', **grid)
    with pytest.raises(ValueError, match='expected several timesteps for Le'):
        build_policy(config, num_timesteps=1000)
    uniform = dict(config, type='repfusion_mm.UniformTimestepPolicy')
    assert len(build_policy(uniform, 1000).timesteps) == 1


SHAPES = [(8, 4, 4), (16, 2, 2)]


def test_the_channels_of_a_normalizer_are_not_a_setting():
    config = dict(type='repfusion_mm.StandardizeNormalizer', num_channels=8)
    with pytest.raises(ValueError, match='num_channels, which is'):
        build_normalizers(config, HintLoss(), SHAPES)


def test_each_layer_has_a_normalizer_of_its_channels():
    for name, config in NORMALIZERS.items():
        by_name = build_normalizers(name, HintLoss(), SHAPES)
        by_config = build_normalizers(config, HintLoss(), SHAPES)
        for normalizer, other, shape in zip(by_name, by_config, SHAPES):
            assert repr(normalizer) == repr(other)
            feat = torch.randn(2, *shape)
            assert normalizer(feat).shape == feat.shape
            assert torch.equal(normalizer(feat), feat) == (name == 'none')


def test_normalizers_scale_what_the_loss_compares():
    student = torch.zeros(6, 8, 4, 4)
    teacher = torch.randn(6, 8, 4, 4) + torch.randn(6, 8, 1, 1) + 7
    for pooled in (False, True):
        loss = HintLoss(pooled=pooled)
        for scale in (1e-3, 1e3):
            (normalizer,) = build_normalizers('standardize', loss, SHAPES[:1])
            actual = float(loss(student, normalizer(scale * teacher)))
            assert actual == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize(
    ('name', 'loss', 'message'),
    [
        ('batch', HintLoss, r"model\.normalizer to be one of .* got 'batch'"),
        (dict(type='phi_s'), HintLoss, r"set it to 'repfusion_mm\.PHISNormal"),
        ('layer_norm', AttentionTransferLoss, 'attention maps are constant'),
        ('phi_s', RelationalLoss, 'neither relative distances nor angles'),
    ],
)
def test_normalizers_without_effect_are_refused(name, loss, message):
    with pytest.raises(ValueError, match=message):
        build_normalizers(name, loss(), SHAPES)


@pytest.mark.parametrize(
    ('name', 'loss'),
    [('layer_norm', AttentionTransferLoss), ('phi_s', RelationalLoss)],
)
def test_a_refused_normalizer_has_no_effect(name, loss):
    """The attention map of the teacher is constant; the loss is the same."""
    student, teacher = torch.randn(2, 6, 8, 4, 4)
    config = dict(NORMALIZERS[name])
    if name == 'phi_s':  # the batch completes the statistics
        config['num_images'] = 6
    (normalizer,) = build_normalizers(config, HintLoss(), SHAPES[:1])
    normalized = normalizer(teacher)
    if name == 'layer_norm':
        norms = normalized.pow(2).sum(1)
        torch.testing.assert_close(norms, torch.full_like(norms, 8))
    else:
        torch.testing.assert_close(
            loss()(student, normalized), loss()(student, teacher)
        )
