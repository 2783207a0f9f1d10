"""A training step does not synchronize: it runs on meta tensors."""

import copy

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from mmpose.structures import PoseDataSample

from repfusion_mm.models.decoders import (
    DetDecoder,
    KeypointDecoder,
    SegDecoder,
)
from repfusion_mm.models.distillers.builders import NORMALIZERS
from repfusion_mm.models.policies import UniformTimestepPolicy
from tests.helpers.dense_samples import (
    det_samples,
    pose_samples,
    seg_samples,
)
from tests.helpers.levels import levels_config
from tests.helpers.toy import DENOISER, LAYER, batch, distiller_config
from tests.unit.engine.optimizers.test_joint_optim_wrapper import config

#: Of two images, the second of which is unlabeled.
BOXES = [[(0, 0, 20, 30, 1), (8, 8, 40, 40, 2)], []]
IGNORED = [[], [(0, 0, 64, 64, 0)]]


def step_on_meta(data=None, **overrides):
    """Take a training step; meta tensors have no values to read."""
    model = MODELS.build(distiller_config(**overrides)).to('meta')
    # Without clipping, for which mmengine reads the norm, to log it.
    plain = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
    wrapper = build_optim_wrapper(model, config(student=plain))
    return model.train_step(data or batch(), wrapper)


@pytest.mark.parametrize('labels', [[0, 1, 2, 3], [0, None, 2, None]])
def test_a_step_with_labels_does_not_synchronize(labels):
    statistics = step_on_meta(batch(labels=labels))
    assert {value.device.type for value in statistics.values()} == {'meta'}
    assert 'reward' in statistics


@pytest.mark.parametrize(
    'loss',
    [
        'HintLoss',
        'AttentionTransferLoss',
        'RelationalLoss',
        'CosineHintLoss',
        'TokenRelationLoss',
    ],
)
def test_no_loss_synchronizes(loss):
    teacher = dict(
        type='repfusion_mm.DiffusersTeacher',
        config=DENOISER,
        layers=['down_blocks.0.resnets.0.conv2', LAYER],
        input_mode='noised',
    )
    student = dict(distiller_config()['student'], out_indices=(2, 3))
    step_on_meta(
        teacher=teacher,
        student=student,
        student_indices=(0, 1),
        distill_loss=dict(type=f'repfusion_mm.{loss}'),
    )


def test_the_feature_regressor_with_a_sum_of_losses_does_not_synchronize():
    hint = levels_config()['distill_loss']
    attention = dict(type='repfusion_mm.AttentionTransferLoss')
    loss = dict(type='repfusion_mm.SumLoss', losses=[hint, attention])
    step_on_meta(batch(size=32), **levels_config(distill_loss=loss))


@pytest.mark.parametrize('name', NORMALIZERS)
def test_no_normalizer_synchronizes(name):
    """A step of the collection, the last one, and one after it."""
    config = NORMALIZERS[name]
    if config is not None:
        config = dict(config, num_images=8, discard_massive=10)
    model = MODELS.build(distiller_config(normalizer=config)).to('meta')
    for _ in range(3):
        model.loss(**model.data_preprocessor(batch(), True))
    assert all(getattr(i, 'steps_left', 0) == 0 for i in model.normalizers)


@pytest.mark.parametrize('device', ['cpu', 'meta'])
@pytest.mark.parametrize(
    ('decoder', 'samples'),
    [
        (
            SegDecoder(3, 6),
            lambda: seg_samples([torch.zeros(8, 8).long(), None]),
        ),
        (
            KeypointDecoder(5, 6),
            lambda: [
                *pose_samples(torch.rand(1, 5, 2), torch.ones(1, 5)),
                PoseDataSample(),
            ],
        ),
    ],
)
def test_dense_labels_may_be_on_the_device(decoder, samples, device):
    decoder.loss(
        torch.rand(2, 6, 4, 4), samples()
    )  # checks the labels on the host
    samples = [sample.to(device) for sample in samples()]
    feat = torch.rand(2, 6, 4, 4, device='meta')
    losses, labeled = copy.deepcopy(decoder).to('meta').loss(feat, samples)
    assert losses.device.type == labeled.device.type == 'meta'


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('labels', [[0, 1, 2, 3], [0, None, 2, None]])
@pytest.mark.parametrize(
    'loss', ['HintLoss', 'AttentionTransferLoss', 'RelationalLoss']
)
def test_a_step_does_not_synchronize_with_a_gpu(loss, labels):
    """Meta tensors do not show copies of numbers to the device."""
    model = MODELS.build(
        distiller_config(distill_loss=dict(type=f'repfusion_mm.{loss}'))
    ).cuda()
    plain = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
    wrapper = build_optim_wrapper(model, config(student=plain))
    # Copied before: mmengine's preprocessor copies image by image.
    data = model.data_preprocessor(batch(labels=labels), True)
    for mode in ('default', 'error'):
        torch.cuda.set_sync_debug_mode(mode)
        try:
            losses = model.loss(**data)
            wrapper.update_params(model.parse_losses(losses)[0])
        finally:
            torch.cuda.set_sync_debug_mode('default')


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('name', NORMALIZERS)
def test_no_normalizer_synchronizes_with_a_gpu(name):
    """Except in the last step of the collection, if there is one."""
    config = NORMALIZERS[name]
    if config is not None:
        config = dict(config, num_images=8, discard_massive=10)
    model = MODELS.build(distiller_config(normalizer=config)).cuda()
    data = model.data_preprocessor(batch(), True)
    for mode in ('error', 'default', 'error'):
        torch.cuda.set_sync_debug_mode(mode)
        try:
            model.loss(**data)
        finally:
            torch.cuda.set_sync_debug_mode('default')


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_dense_rewards_do_not_synchronize_with_a_gpu():
    maps = seg_samples([torch.zeros(8, 8).long(), None])
    points = [
        *pose_samples(torch.rand(1, 5, 2), torch.ones(1, 5)),
        PoseDataSample(),
    ]
    feat = torch.rand(2, 6, 4, 4, device='cuda')
    for decoder, samples in (
        (SegDecoder(3, 6), maps),
        (KeypointDecoder(5, 6), points),
        (DetDecoder(3, 6), det_samples(BOXES, IGNORED)),
    ):
        decoder.cuda().loss(feat, samples)  # checks the labels on the host
        samples = [sample.to('cuda') for sample in samples]
        torch.cuda.set_sync_debug_mode('error')
        try:
            decoder.loss(feat, samples)
        finally:
            torch.cuda.set_sync_debug_mode('default')


def test_rewards_of_boxes_do_not_synchronize():
    samples = [i.to('meta') for i in det_samples(BOXES, IGNORED)]
    feat = torch.rand(2, 6, 4, 4, device='meta')
    losses, labeled = DetDecoder(3, 6).to('meta').loss(feat, samples)
    assert losses.shape == labeled.shape == (2,)
    assert losses.is_meta


def test_synchronization_raises_on_the_meta_device():
    with pytest.raises(RuntimeError, match=r'(?i)meta'):
        bool(torch.ones(1, device='meta').any())


def test_samples_equal_those_of_torch():
    policy = UniformTimestepPolicy(1000)
    policy.logits = lambda images: torch.randn(64, 1000)
    pi = policy(torch.zeros(64, 3, 8, 8))
    torch.manual_seed(5)
    expected = super(type(pi), pi).sample()
    torch.manual_seed(5)
    assert torch.equal(pi.sample(), expected)
    assert pi.sample((3,)).shape == (3, 64)
