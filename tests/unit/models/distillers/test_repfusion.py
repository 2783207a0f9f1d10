import copy

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from mmengine.registry import MODELS
from mmengine.runner.checkpoint import get_state_dict

from tests.helpers.ranks import run_on_ranks
from tests.helpers.toy import DENOISER, LAYER, batch, distiller_config


def build(**overrides):
    return MODELS.build(distiller_config(**overrides))


def losses_of(model, data=None):
    data = model.data_preprocessor(data or batch(), True)
    return model(**data, mode='loss')


def test_loss_mode_returns_three_losses_and_their_statistics():
    losses = losses_of(build())
    assert {k for k in losses if 'loss' in k} == {
        'loss_distill',
        'loss_decoder',
        'loss_policy',
    }
    statistics = {
        'reward',
        'policy_entropy',
        'advantage_mean',
        'advantage_std',
        'timestep_mean',
        'timestep_std',
    }
    assert statistics <= set(losses)
    assert losses['reward'] == -losses['loss_decoder']


@pytest.mark.parametrize(
    ('loss', 'parts'),
    [
        ('loss_distill', {'student', 'connectors'}),
        ('loss_decoder', {'decoder'}),
        ('loss_policy', {'policy'}),
    ],
)
def test_each_loss_has_gradients_in_its_own_part_only(loss, parts):
    model = build()
    losses_of(model)[loss].backward()
    moved = {
        name.split('.')[0]
        for name, p in model.named_parameters()
        if p.grad is not None and p.grad.abs().max() > 0
    }
    assert moved == parts


@pytest.mark.filterwarnings('error:var')
def test_one_image_has_no_explained_variance():
    losses = losses_of(build(), batch(1))
    assert losses['explained_variance'].isnan()
    assert losses_of(build())['explained_variance'].isfinite()


def test_every_parameter_gets_a_gradient_even_without_labels():
    """Plain DDP needs all of them in every step's graph."""
    model = build()
    losses = losses_of(model, batch(labels=[None] * 4))
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    assert all(p.grad is not None for p in model.parameters())
    assert losses['loss_decoder'] == 0
    assert losses['loss_policy'] == 0
    assert losses['loss_distill'] > 0
    assert losses['reward'].isnan()


def test_teacher_gets_images_in_the_unit_range_and_the_drawn_timesteps():
    model = build(policy=dict(
        type='repfusion_mm.FixedTimestepPolicy', timestep=123
    ))  # fmt: skip
    data = batch()
    seen = []
    forward = model.teacher.forward
    model.teacher.forward = lambda *args: seen.append(args) or forward(*args)
    losses_of(model, data)
    images, timesteps, samples = seen[0]
    labels = [int(sample.gt_label) for sample in samples]
    assert labels == [0, 1, 2, 3]
    expected = torch.stack(data['inputs']).flip(1) / 255
    torch.testing.assert_close(images, expected, atol=1e-6, rtol=0)
    assert timesteps.tolist() == [123] * 4


@pytest.mark.parametrize('name', ['layer_norm', 'standardize', 'phi_s'])
def test_loss_and_decoder_see_normalized_maps(name):
    policy = dict(type='repfusion_mm.FixedTimestepPolicy', timestep=123)
    loss = dict(type='repfusion_mm.HintLoss', pooled=False)
    model = build(normalizer=name, policy=policy, distill_loss=loss)
    seen = []
    loss, decode = model.distill_loss.forward, model.decoder.loss
    model.distill_loss.forward = lambda *args: (
        seen.append(args[1]) or loss(*args)
    )
    model.decoder.loss = lambda *args: seen.append(args[0]) or decode(*args)
    data = model.data_preprocessor(batch(), True)
    losses = model.loss(**data)
    timesteps = torch.full((4,), 123)
    (maps,) = model.teacher(model.images(data['inputs']), timesteps).values()
    # One batch: the statistics so far are its own.
    dims = dict(layer_norm=(1,), standardize=(0, 2, 3), phi_s=(0, 1, 2, 3))
    centered = maps - maps.mean(
        (1,) if name == 'layer_norm' else (0, 2, 3), keepdim=True
    )
    variance = centered.square().mean(dims[name], keepdim=True)
    for feat in seen:
        torch.testing.assert_close(
            feat, centered / variance.sqrt(), atol=1e-3, rtol=1e-3
        )
    assert len(seen) == 2
    pooled = maps.mean((2, 3))
    torch.testing.assert_close(
        losses['feature_relative_std'],
        (pooled.var(0, unbiased=False).mean() / pooled.pow(2).mean()).sqrt(),
        rtol=1e-4,
        atol=0,
    )


def test_equal_maps_of_all_images_are_seen_under_a_normalizer():
    model = build(normalizer='standardize')
    feat = torch.randn(1, 16, 8, 8).expand(4, -1, -1, -1)
    model.teacher.forward = lambda *args: {LAYER: feat}
    assert losses_of(model)['feature_relative_std'] < 1e-3


def test_the_explained_variance_is_1_for_the_teacher():
    """Also if the features differ from those that were standardized."""
    model = build(normalizer='standardize')
    losses_of(model)
    model.normalizers[0].steps_left = 0
    torch.manual_seed(0)
    feat = torch.randn(4, 16, 1, 1) / 3 + 5
    # The variance is unbiased, as around the mean of all images. Of it, the
    # mean of these n = 4 leaves (n - 1) / n.
    shares = {1.0: feat, 0.25: feat.mean(0, keepdim=True).expand_as(feat)}
    model.teacher.forward = lambda *args: {LAYER: feat}
    for share, student in shares.items():
        normalized = model.normalizers[0](student)
        model.connectors[0].forward = lambda _, out=normalized: out
        losses = losses_of(model)
        assert losses['explained_variance'] == pytest.approx(share, abs=1e-4)
    assert losses['loss_distill'] != pytest.approx(1, abs=0.2)


def test_losses_that_are_no_squared_error_explain_no_variance():
    loss = dict(type='repfusion_mm.AttentionTransferLoss')
    assert 'explained_variance' not in losses_of(build(distill_loss=loss))


def test_class_labels_reach_the_denoiser_if_configured():
    teacher = distiller_config()['teacher']
    teacher = dict(
        teacher,
        config=dict(teacher['config'], num_class_embeds=10),
        class_signal='label',
    )
    model = build(teacher=teacher)
    seen = []
    model.teacher.live.denoiser.register_forward_pre_hook(
        lambda _module, _args, kwargs: seen.append(kwargs['class_labels']),
        with_kwargs=True,
    )
    losses_of(model, batch(labels=[3, 1, 4, 1]))
    assert seen[0].tolist() == [3, 1, 4, 1]
    with pytest.raises(ValueError, match='for every image'):
        losses_of(model, batch(labels=[3, None, 4, 1]))


def test_teacher_is_not_part_of_the_models_state():
    """The reference implementation saves it in every checkpoint."""
    model = build()
    teacher = {id(p) for p in model.teacher.parameters()}
    assert not teacher & {id(p) for p in model.parameters()}
    for keys in (model.state_dict(), get_state_dict(model)):
        assert not any('teacher' in k or 'denoiser' in k for k in keys)
    average = ExponentialMovingAverage(model)
    assert average.module.teacher is model.teacher
    model.train()
    assert not model.teacher.training


def test_teacher_follows_the_models_device():
    model = build().to('meta')
    assert {p.device.type for p in model.teacher.parameters()} == {'meta'}


def test_the_memory_format_does_not_change_results():
    models = []
    for channels_last in (False, True):
        torch.manual_seed(0)
        student = dict(
            type='mmpretrain.ResNet_CIFAR', depth=18,
            stem_channels=16, base_channels=16,
        )  # fmt: skip
        models.append(build(student=student, channels_last=channels_last))
        models[-1].init_weights()
    strides = [m.student.layer1[0].conv1.weight.stride() for m in models]
    assert strides[0] != strides[1]
    for ours, theirs in zip(*(m.parameters() for m in models)):
        assert torch.equal(ours, theirs)
    data, losses = batch(), []
    for model in models:
        torch.manual_seed(0)
        losses.append(losses_of(model, data)['loss_distill'])
    torch.testing.assert_close(*losses)


def test_copies_of_the_model_copy_the_student():
    model = build()
    copied = copy.deepcopy(model)
    for ours, theirs in zip(model.parameters(), copied.parameters()):
        assert ours is not theirs and torch.equal(ours, theirs)


def test_tensor_mode_returns_the_students_features():
    model = build().eval()
    inputs = torch.randn(2, 3, 16, 16)
    feats = model(inputs)
    assert torch.equal(feats[-1], model.student(inputs)[-1])


def test_predicting_is_refused():
    with pytest.raises(ValueError, match="got 'predict'"):
        build()(torch.randn(1, 3, 16, 16), mode='predict')


@pytest.mark.parametrize(
    'loss', ['HintLoss', 'AttentionTransferLoss', 'RelationalLoss']
)
def test_several_layers_are_compared_with_several_maps(loss):
    student = dict(
        type='mmpretrain.ResNet_CIFAR',
        depth=18,
        stem_channels=8,
        base_channels=8,
        out_indices=(2, 3),
    )
    teacher = dict(
        type='repfusion_mm.DiffusersTeacher',
        config=DENOISER,
        layers=['down_blocks.0.resnets.0.conv2', LAYER],
    )
    model = build(
        student=student,
        teacher=teacher,
        student_indices=(0, 1),
        distill_loss=dict(type=f'repfusion_mm.{loss}'),
    )
    assert losses_of(model)['loss_distill'] > 0
    has_parameters = any(True for _ in model.connectors.parameters())
    assert has_parameters == (loss == 'HintLoss')


LOSSES = {
    'hint': dict(type='repfusion_mm.HintLoss'),
    'dense': dict(type='repfusion_mm.HintLoss', pooled=False),
    'AT': dict(type='repfusion_mm.AttentionTransferLoss'),
    'RKD': dict(type='repfusion_mm.RelationalLoss'),
    'cosine': dict(type='repfusion_mm.CosineHintLoss', pooled=False),
    'tokens': dict(type='repfusion_mm.TokenRelationLoss'),
}
#: HRNet with four branches and few channels.
HRNET = dict(
    type='mmpretrain.HRNet',
    extra={
        f'stage{i}': dict(
            num_modules=1,
            num_branches=i,
            block='BOTTLENECK' if i == 1 else 'BASIC',
            num_blocks=(1,) * i,
            num_channels=(8, 16, 32, 64)[:i],
        )
        for i in range(1, 5)
    },
)
#: Not 8 channels: with oneDNN on AVX-512 (torch 2.13), the backward pass of a
#: 1 x 1 convolution of stride 2 from 8 to 16 channels on 64 x 64 pixels in
#: channels last corrupts the heap.
SMALL = dict(stem_channels=16, base_channels=16)
STUDENTS = {
    'mmpretrain.ResNet18': dict(type='mmpretrain.ResNet', depth=18, **SMALL),
    'mmpretrain.ResNet50': dict(type='mmpretrain.ResNet', depth=50, **SMALL),
    'mmpretrain.ResNet_CIFAR': dict(
        type='mmpretrain.ResNet_CIFAR', depth=18, **SMALL
    ),
    'mmpretrain.HRNet': HRNET,
    'timm': dict(
        type='mmpretrain.TIMMBackbone',
        model_name='resnet18',
        features_only=True,
    ),
    'MobileNetV2_CIFAR': dict(
        type='repfusion_mm.MobileNetV2_CIFAR', widen_factor=0.25
    ),
    'mmseg.ResNetV1c': dict(type='mmseg.ResNetV1c', depth=18, **SMALL),
    'mmpose.ResNet': dict(type='mmpose.ResNet', depth=18, **SMALL),
}


@pytest.mark.parametrize('loss', LOSSES)
@pytest.mark.parametrize('student', STUDENTS)
def test_every_student_learns_with_every_loss(student, loss):
    """One step of the optimizer lowers the loss on the same images."""
    teacher = dict(distiller_config()['teacher'], input_size=16)
    policy = dict(type='repfusion_mm.FixedTimestepPolicy')
    model = build(
        student=STUDENTS[student],
        teacher=teacher,
        input_size=64,
        policy=policy,
        decoder=None,
        distill_loss=LOSSES[loss],
    )
    model.init_weights()
    data = batch(size=64)
    part = model.optim_parts()['student']
    optimizer = torch.optim.Adam(part.parameters(), lr=1e-4)
    first = losses_of(model, data)['loss_distill']
    first.backward()
    optimizer.step()
    assert losses_of(model, data)['loss_distill'] < first


def test_parameters_without_influence_are_frozen():
    """DDP waits for the gradient of every parameter that requires one."""
    teacher = dict(distiller_config()['teacher'], input_size=16)
    model = build(student=HRNET, teacher=teacher, input_size=64)
    sum(v for k, v in losses_of(model, batch(size=64)).items()
        if 'loss' in k).backward()  # fmt: skip
    waiting = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    ]
    assert waiting == []


def test_parameters_without_influence_are_logged(log):
    build()
    assert 'do not influence' not in log.text
    student = dict(distiller_config()['student'], out_indices=(1, 3))
    build(student=student, student_indices=(0,))
    assert 'layer3.0.conv1.weight' in log.text


def test_unlabeled_distillation_needs_no_decoder():
    policy = dict(type='repfusion_mm.FixedTimestepPolicy')
    model = build(decoder=None, policy=policy)
    losses = losses_of(model)
    assert {k for k in losses if 'loss' in k} == {'loss_distill'}


ONE_PIXEL = dict(
    type='mmpretrain.ResNet_CIFAR',
    depth=18,
    stem_channels=8,
    base_channels=8,
    strides=(2, 2, 2, 2),
)
VIT = dict(
    type='mmpretrain.VisionTransformer',
    arch='deit-tiny',
    img_size=16,
    patch_size=8,
)


@pytest.mark.parametrize(
    ('overrides', 'message'),
    [
        (dict(decoder=None), 'expected a decoder'),
        (
            dict(student=HRNET),
            'images of 16 x 16',
        ),
        (dict(student=VIT), "set model.student.out_type='featmap'"),
        (dict(student_indices=(4,)), 'map at index 4'),
        (dict(student_indices=0), 'one integer or more, got 0; correct it'),
        (dict(connector='ConvConnector'), "set dict.type='ConvConnector'"),
        (dict(channels_last='no'), r"\(True, False\), got 'no'"),
        (dict(compile='yes'), r"\(True, False\), got 'yes'"),
        (dict(student_indices=(-1, -1)), 'one student map for each'),
        (
            dict(policy=dict(
                type='repfusion_mm.LearnedTimestepPolicy', num_timesteps=2000
            )),
            'schedule of 1000 timesteps, got 2000',
        ),
        (
            dict(
                student=ONE_PIXEL,
                distill_loss=dict(type='repfusion_mm.AttentionTransferLoss'),
            ),
            'more than one pixel',
        ),
        (
            dict(
                connector=dict(type='repfusion_mm.ConvConnector'),
                distill_loss=dict(type='repfusion_mm.RelationalLoss'),
            ),
            'expected no connector',
        ),
        (
            dict(data_preprocessor=dict(type='mmengine.ImgDataPreprocessor')),
            'channel_order',
        ),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit_are_refused(overrides, message):
    with pytest.raises(ValueError, match=message):
        build(**overrides)


def test_the_reward_of_each_rank_is_that_of_all():
    labels = [[1, None, None, None], [2, 3, 4, None]]

    def losses(rank):
        torch.manual_seed(0)
        model = build()
        torch.manual_seed(rank)
        found = losses_of(model, batch(labels=labels[rank]))
        return found['reward'].item(), found['loss_decoder'].item()

    (reward_0, loss_0), (reward_1, loss_1) = run_on_ranks(losses)
    assert reward_0 == reward_1 == pytest.approx(-(loss_0 + loss_1) / 2)
    assert abs(loss_0 - loss_1) > 0.1
