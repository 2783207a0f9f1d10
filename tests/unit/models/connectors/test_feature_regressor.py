import pytest
import torch
import torch.nn.functional as F
from mmengine.model import revert_sync_batchnorm

from repfusion_mm.models import FeatureRegressor

FINE, COARSE = (5, 8, 8), (7, 4, 4)
SHAPES = [FINE, COARSE]
TEACHER = [(3, 16, 16), (4, 2, 2)]
SMALL = dict(channels=8, pool_scales=(1, 2))


def maps(shapes, num_images=2):
    return [torch.randn(num_images, *shape) for shape in shapes]


@pytest.mark.parametrize(
    'student',
    [
        SHAPES,
        [FINE],
        [(5, 8, 12), (6, 8, 12), (7, 8, 12), (8, 4, 6)],  # dilated
    ],
)
def test_each_level_has_the_teachers_channels_and_grid(student):
    teacher = [(3 + i, 9 - 2 * i, 11) for i in range(len(student))]
    regressor = FeatureRegressor(student, teacher, **SMALL)
    assert [tuple(feat.shape[1:]) for feat in regressor(maps(student))] == (
        teacher
    )


def test_levels_equal_the_pyramid_of_upernet():
    """UPerHead up to the maps that it fuses, of the same weights."""
    pytest.importorskip('mmseg')
    from mmseg.models.decode_heads import UPerHead

    student = [(5, 8, 8), (6, 4, 4), (7, 2, 2)]
    teacher = [(3, *shape[1:]) for shape in student]
    head = UPerHead(
        pool_scales=(1, 2), in_channels=[5, 6, 7], in_index=[0, 1, 2],
        channels=8, num_classes=3, norm_cfg=dict(type='BN'),
    )  # fmt: skip
    regressor = FeatureRegressor(student, teacher, **SMALL)
    regressor.pools.load_state_dict(head.psp_modules.state_dict())
    for ours, theirs in (
        (regressor.bottleneck, head.bottleneck),
        (regressor.laterals, head.lateral_convs),
        (regressor.smooth, head.fpn_convs),
    ):
        ours.load_state_dict(theirs.state_dict())
    fused = []
    head.fpn_bottleneck.register_forward_pre_hook(
        lambda module, args: fused.append(args[0])
    )
    feats = maps(student)
    head._forward_feature(feats)
    for theirs, output, ours in zip(
        fused[0].split(8, dim=1), regressor.outputs, regressor(feats)
    ):  # the head resizes all maps to the first
        resized = F.interpolate(ours, size=(8, 8), mode='bilinear')
        torch.testing.assert_close(resized, output(theirs))


def test_the_last_map_reaches_all_levels_and_the_first_its_own():
    regressor = FeatureRegressor(SHAPES, TEACHER, **SMALL)
    feats = [feat.requires_grad_() for feat in maps(SHAPES)]
    fine, coarse = regressor(feats)
    reached = torch.autograd.grad(
        coarse.sum(), feats, retain_graph=True, allow_unused=True
    )
    assert reached[0] is None and reached[1].any()
    reached = torch.autograd.grad(fine.square().sum(), feats)
    assert all(grad.any() for grad in reached)


def test_settings_of_the_pyramid_are_used():
    plain = FeatureRegressor(
        SHAPES, TEACHER, channels=8, pool_scales=(), norm_cfg=None,
        act_cfg=None,
    )  # fmt: skip
    fine, coarse = maps(SHAPES)
    expected = plain.outputs[1](plain.bottleneck.conv(coarse))
    torch.testing.assert_close(
        plain([fine, coarse])[1],
        F.interpolate(expected, size=(2, 2), mode='bilinear', antialias=True),
    )
    groups = FeatureRegressor(
        SHAPES, TEACHER, norm_cfg=dict(type='GN', num_groups=4), **SMALL
    )
    assert groups.bottleneck.gn.num_groups == 4


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_maps_are_float32_under_autocast(dtype):
    regressor = FeatureRegressor(SHAPES, TEACHER, **SMALL)
    feats = maps(SHAPES)
    expected = regressor(feats)
    with torch.autocast('cpu', dtype=dtype):
        actual = regressor(feats)
    for ours, theirs in zip(actual, expected):
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm() < 0.05 * theirs.norm()


def test_a_scale_above_the_last_map_is_refused():
    with pytest.raises(ValueError, match=r'at most 4.* got \[1, 2, 3, 6\]; l'):
        FeatureRegressor(SHAPES, TEACHER)


def test_a_batch_of_one_image_is_refused_if_its_norm_is_that_of_the_batch():
    regressor = FeatureRegressor(SHAPES, TEACHER, **SMALL)
    with pytest.raises(ValueError, match=r'two images or more .* got one; '):
        regressor(maps(SHAPES, 1))
    regressor.eval()(maps(SHAPES, 1))
    synced = FeatureRegressor(
        SHAPES, TEACHER, **SMALL, norm_cfg=dict(type='SyncBN')
    )
    for regressor in (synced, revert_sync_batchnorm(synced)):
        with pytest.raises(ValueError, match='two images or more'):
            regressor.check_batch(1)
        regressor.check_batch(2)
    for settings in (dict(pool_scales=(2,)), dict(norm_cfg=None)):
        FeatureRegressor(SHAPES, TEACHER, **{**SMALL, **settings})(
            maps(SHAPES, 1)
        )


def test_maps_from_coarse_to_fine_are_refused():
    message = r'fine to coarse .* got \[.*\]; order model.student_indices'
    with pytest.raises(ValueError, match=message):
        FeatureRegressor(SHAPES[::-1], TEACHER[::-1], **SMALL)
