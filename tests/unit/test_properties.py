"""What must hold for any input, tried on many."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.model import ImgDataPreprocessor
from mmpretrain.models import ResNet

from repfusion_mm.engine import StrictPretrained, TimestepPolicyHook
from repfusion_mm.models import LearnedTimestepPolicy, UniformTimestepPolicy
from repfusion_mm.models.connectors.conv_connector import (
    ConvConnector,
    resize_to,
)
from repfusion_mm.models.losses import (
    AttentionTransferLoss,
    HintLoss,
    RelationalLoss,
)
from repfusion_mm.models.utils.image_range import to_unit_range

LOSSES = [
    HintLoss(),
    HintLoss(pooled=False, criterion='l1'),
    AttentionTransferLoss(),
    RelationalLoss(),
]
settings.register_profile('ours', max_examples=40, deadline=None)
settings.load_profile('ours')

seeds = st.integers(0, 2**31 - 1)
sides = st.integers(1, 6)


def maps(seed, num_images, channels, height, width, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    shape = num_images, channels, height, width
    return scale * torch.randn(shape, generator=generator)


@given(seeds, st.integers(2, 5), st.integers(1, 4), sides, sides)
@pytest.mark.parametrize('loss', LOSSES, ids=lambda loss: type(loss).__name__)
def test_losses_are_not_negative_and_zero_at_equality(
    loss, seed, num_images, channels, height, width
):
    student = maps(seed, num_images, channels, height, width)
    teacher = maps(seed + 1, num_images, channels, height, width)
    assert loss(student, teacher) >= 0
    assert loss(teacher, teacher) == pytest.approx(0, abs=1e-5)


@given(seeds, st.floats(0.01, 100))
def test_attention_ignores_scale_and_order_of_channels(seed, scale):
    student, teacher = maps(seed, 3, 4, 5, 5), maps(seed + 1, 3, 6, 5, 5)
    loss = AttentionTransferLoss()
    expected = loss(student, teacher).item()
    assert loss(student * scale, teacher).item() == pytest.approx(
        expected, rel=1e-3
    )
    assert loss(student.flip(1), teacher).item() == pytest.approx(
        expected, rel=1e-3
    )


@given(seeds, st.floats(0.05, 20), st.floats(-5, 5))
def test_relations_ignore_scale_shift_and_rotation(seed, scale, shift):
    feats = maps(seed, 5, 4, 1, 1)
    rotation = torch.linalg.qr(maps(seed + 1, 1, 1, 4, 4)[0, 0])[0]
    moved = torch.einsum('nchw,cd->ndhw', feats, rotation) * scale + shift
    assert RelationalLoss()(moved, feats).item() < 1e-3


@given(
    st.integers(1, 5), st.integers(1, 5), sides, sides, sides, sides,
    st.sampled_from([1, 3, 5]),
)  # fmt: skip
def test_connectors_return_the_teachers_shape(
    c_in, c_out, h, w, th, tw, kernel
):
    feat = ConvConnector(c_in, c_out, kernel)(maps(0, 2, c_in, h, w))
    assert feat.shape == (2, c_out, h, w)
    assert resize_to(feat, (th, tw)).shape == (2, c_out, th, tw)
    flat = torch.full((1, 1, h, w), 0.7)
    torch.testing.assert_close(
        resize_to(flat, (th, tw)), torch.full((1, 1, th, tw), 0.7)
    )


@given(seeds, st.integers(2, 60), st.integers(1, 7), st.floats(0, 20))
def test_policies_are_distributions(seed, num_timesteps, stride, scale):
    torch.manual_seed(seed)
    low = seed % num_timesteps
    policies = [
        LearnedTimestepPolicy(num_timesteps, low, stride=stride),
        UniformTimestepPolicy(num_timesteps, low, stride=stride),
    ]
    torch.nn.init.normal_(policies[0].head.weight, std=scale)
    for policy in policies:
        pi = policy(torch.rand(3, 3, 8, 8))
        actions = pi.sample()
        assert low <= policy.timesteps[actions].min()
        assert policy.timesteps[actions].max() < num_timesteps
        assert (pi.log_prob(actions) <= 1e-6).all()
        torch.testing.assert_close(pi.probs.sum(-1), torch.ones(3))
        limit = math.log(len(policy.timesteps)) + 1e-4
        assert ((pi.entropy() >= -1e-5) & (pi.entropy() <= limit)).all()


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


@given(seeds, st.sampled_from(['', 'student.', 'backbone.', 'module.']))
@settings(max_examples=8)
def test_loader_finds_the_backbone_under_any_prefix(
    tmp_path_factory, seed, prefix
):
    torch.manual_seed(seed)
    source, target = (ResNet(18, base_channels=4, stem_channels=4)
                      for _ in range(2))  # fmt: skip
    weights = {prefix + k: v for k, v in source.state_dict().items()}
    if prefix:
        weights['head.fc.weight'] = torch.ones(2, 2)
    path = tmp_path_factory.mktemp('loader') / 'some.pth'
    torch.save(dict(state_dict=weights), path)
    given_prefix = prefix if prefix == 'module.' else None
    StrictPretrained(str(path), prefix=given_prefix)(target)
    for key, value in target.state_dict().items():
        assert torch.equal(value, source.state_dict()[key]), key


@given(st.floats(0, 1), st.floats(0.01, 1), st.floats(0, 0.2))
def test_entropy_weight_never_increases(initial, decay, floor):
    hook = TimestepPolicyHook(decay, floor)
    weights = [hook.entropy_weight(initial, i / 20) for i in range(21)]
    assert weights[0] == pytest.approx(initial)
    assert weights == sorted(weights, reverse=True)
    assert weights[-1] == pytest.approx(min(floor, initial), abs=1e-9)
