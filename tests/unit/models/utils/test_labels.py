"""Labels that do not count change no loss, gradient, reward or score."""

import numpy as np
import pytest
import torch
from hypothesis import given
from mmengine.registry import MODELS
from mmengine.structures import InstanceData, PixelData
from mmpose.structures import PoseDataSample
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample

from repfusion_mm.analysis.probe.prober import find_task
from repfusion_mm.models import ClsDecoder, KeypointDecoder, SegDecoder
from repfusion_mm.models.utils.labels import (
    UNLABELED,
    read_labels,
    read_points,
)
from tests.helpers.strategies import seeds
from tests.helpers.toy import distiller_config

NUM = 12
NOTHING = [float('nan'), float('inf'), -float('inf'), -3.0, 7.5, 0.3]


def class_samples(seed, junk):
    """Return images of which some are unlabeled; nothing else can differ."""
    rng = np.random.default_rng(seed)
    samples = [DataSample() for _ in range(NUM)]
    for i, sample in enumerate(samples):
        label, kind = rng.integers(4), rng.integers(3)
        if kind == 0:
            sample.set_gt_label(int(label))
        elif kind == 1 and (i + junk) % 2:
            sample.set_gt_label(UNLABELED)
    return samples


def mask_samples(seed, junk, ignore_index=255):
    """Return masks in which pixels, or all of them, are ignored.

    An unlabeled image has no mask, or one of ignored pixels.
    """
    rng, other = np.random.default_rng(seed), np.random.default_rng(junk)
    samples = []
    for _ in range(NUM):
        mask = torch.from_numpy(rng.integers(1, 4, (8, 8)))
        ignored = rng.random((8, 8)) < rng.choice([0, 0.5, 1])
        mask[torch.from_numpy(ignored)] = ignore_index
        samples.append(SegDataSample())
        if not ignored.all() or other.random() < 0.5:
            samples[-1].gt_sem_seg = PixelData(data=mask[None])
    return samples


def point_samples(seed, junk):
    """Return keypoints; coordinates of weight 0 depend on ``junk`` only."""
    rng, other = np.random.default_rng(seed), np.random.default_rng(junk)
    samples = []
    for _ in range(NUM):
        points = torch.from_numpy(rng.random((1, 3, 2))).float()
        weights = rng.random((1, 3)) < rng.choice([0, 0.5, 1])
        weights = torch.from_numpy(weights).float()
        values = torch.from_numpy(other.choice(NOTHING, (1, 3, 2))).float()
        points = torch.where(weights[..., None] > 0, points, values)
        # A point outside the image does not count either.
        if weights[0, 0] and rng.random() < 0.3:
            points[0, 0] = torch.tensor([other.choice([-0.2, 1.5]), 0.5])
        samples.append(PoseDataSample())
        samples[-1].gt_instance_labels = InstanceData(
            keypoint_labels=points, keypoint_weights=weights
        )
        if not weights.any() and other.random() < 0.5:
            empty = InstanceData()
            if other.random() < 0.5:
                empty.keypoint_labels = torch.zeros(0, 3, 2)
                empty.keypoint_weights = torch.zeros(0, 3)
            samples[-1].gt_instance_labels = empty
    return samples


TASKS = {
    'classes': (dict(type='ClsDecoder', num_classes=4), class_samples),
    'several classes': (
        dict(type='ClsDecoder', num_classes=4, multi_label=True),
        class_samples,
    ),
    'masks': (dict(type='SegDecoder', num_classes=4), mask_samples),
    'masks without zero': (
        dict(type='SegDecoder', num_classes=4, ignore_index=0),
        lambda seed, junk: mask_samples(seed, junk, 0),
    ),
    'keypoints': (
        dict(type='KeypointDecoder', num_keypoints=3),
        point_samples,
    ),
}


def config_of(task):
    config = TASKS[task][0]
    return dict(config, type=f'repfusion_mm.{config["type"]}')


def build(task):
    """Return the decoder and the function that makes samples."""
    return MODELS.build(dict(config_of(task), in_channels=6)), TASKS[task][1]


def losses_of(decoder, feat, samples):
    """Return losses, the mask of labeled images, and all gradients."""
    feat = feat.clone().requires_grad_()
    decoder.zero_grad()
    losses, labeled = decoder.loss(feat, samples)
    losses.sum().backward()
    grads = [parameter.grad for parameter in decoder.parameters()]
    return losses.detach(), labeled, feat.grad, *grads


@pytest.mark.parametrize('task', TASKS)
@given(seeds)
def test_labels_that_do_not_count_change_no_loss(task, seed):
    decoder, make = build(task)
    torch.manual_seed(seed)
    feat = torch.randn(NUM, 6, 4, 4)
    results = [losses_of(decoder, feat, make(seed, junk)) for junk in (1, 2)]
    for first, second in zip(*results):
        assert first.isfinite().all()
        assert torch.equal(first, second)
    losses, labeled, feat_grad = results[0][:3]
    assert not losses[~labeled].any()
    assert not feat_grad[~labeled].any()
    # The other images of a batch do not change the loss of an image.
    samples = make(seed, 1)
    for i in labeled.nonzero().flatten().tolist():
        loss, mask = decoder.loss(feat[i : i + 1], samples[i : i + 1])
        assert mask.all()
        torch.testing.assert_close(loss[0], losses[i])


@given(seeds)
def test_losses_are_those_of_the_labels_that_count(seed):
    torch.manual_seed(seed)
    feat = torch.randn(NUM, 6, 4, 4)
    decoder, make = build('masks without zero')
    losses, labeled = decoder.loss(feat, samples := make(seed, 1))
    logits = torch.nn.functional.interpolate(
        decoder(feat), size=(8, 8), mode='bilinear'
    )
    for i, sample in enumerate(samples):
        mask = sample.gt_sem_seg.data[0] if 'gt_sem_seg' in sample else None
        counts = mask != 0 if mask is not None else torch.zeros(1)
        assert labeled[i] == counts.any()
        if counts.any():
            log_probs = logits[i].log_softmax(0)[:, counts]
            expected = -log_probs.gather(0, mask[counts][None]).mean()
            torch.testing.assert_close(losses[i], expected)
    decoder, make = build('keypoints')
    losses, labeled = decoder.loss(feat, samples := make(seed, 1))
    for i, sample in enumerate(samples):
        errors = []
        labels = sample.gt_instance_labels
        for k in range(3 * len(labels)):
            point = labels.keypoint_labels[0, k]
            if labels.keypoint_weights[0, k] and 0 <= point[0] <= 1:
                errors.append((decoder(feat)[i, k] - point).abs().sum())
        assert labeled[i] == bool(errors)
        if errors:
            torch.testing.assert_close(losses[i], sum(errors) / len(errors))


@pytest.mark.parametrize('task', ['classes', 'masks', 'keypoints'])
@given(seeds)
def test_decoder_and_probe_agree_on_the_labels_that_count(task, seed):
    decoder, make = build(task)
    _, labeled = decoder.loss(torch.randn(NUM, 6, 4, 4), make(seed, 1))
    targets = []
    for junk in (1, 2):
        targets.append([])
        for sample in make(seed, junk):
            kind = find_task(sample)
            target = kind.read(sample, 255) if kind else None
            targets[-1].append(None if target is None else target.numpy())
    assert [target is not None for target in targets[0]] == labeled.tolist()
    for first, second in zip(*targets):
        assert first is second is None or np.array_equal(first, second)
    if task == 'classes':
        known = read_labels(make(seed, 2), NUM) != UNLABELED
        assert known.tolist() == labeled.tolist()


@pytest.mark.parametrize('task', TASKS)
def test_labels_that_do_not_count_give_no_reward_and_no_gradient(task):
    model = MODELS.build(distiller_config(decoder=config_of(task)))
    make = TASKS[task][1]
    results = []
    for junk in (1, 2):
        torch.manual_seed(0)
        model.zero_grad()
        losses = model.loss(torch.rand(NUM, 3, 16, 16), make(5, junk))
        sum(v for k, v in losses.items() if 'loss' in k).backward()
        grads = {
            name: parameter.grad
            for part in ('policy', 'decoder')
            for name, parameter in getattr(model, part).named_parameters()
        }
        results.append({**losses, **grads})
    for name, value in results[0].items():
        assert value.isfinite().all(), name
        assert torch.equal(value, results[1][name]), name
    assert results[0]['head.weight'].any()


@pytest.mark.parametrize('task', TASKS)
def test_batches_without_a_label_that_counts_train_nothing(task):
    decoder, _ = build(task)
    junk = {
        ClsDecoder: DataSample().set_gt_label(UNLABELED),
        SegDecoder: SegDataSample(
            gt_sem_seg=PixelData(
                data=torch.full(
                    (1, 8, 8), getattr(decoder, 'ignore_index', 0)
                )
            )
        ),
        KeypointDecoder: PoseDataSample(gt_instance_labels=InstanceData()),
    }  # fmt: skip
    for samples in (None, [{}] * 2, [junk[type(decoder)]] * 2):
        losses, labeled, *grads = losses_of(
            decoder, torch.randn(2, 6, 4, 4), samples
        )
        assert not labeled.any()
        assert not losses.any()
        # DDP waits for the gradient of each parameter.
        assert all(g is not None and not g.any() for g in grads)


def test_labels_below_zero_never_take_a_class_from_the_end():
    """On a GPU the values of later batches are not checked."""
    decoder = ClsDecoder(4, 6)
    assert decoder._one_hot(torch.tensor([-1, 3])).tolist() == [
        [0, 0, 0, 0], [0, 0, 0, 1],
    ]  # fmt: skip
    for label in (-2, -4, 4):
        with pytest.raises(RuntimeError, match='out of bounds'):
            decoder._one_hot(torch.tensor([label]))


@pytest.mark.parametrize(
    ('decoder', 'sample', 'message'),
    [
        (
            ClsDecoder(4, 6),
            DataSample(gt_label=torch.tensor([2.0])),
            r'integers in gt_label, got torch.float32 in 7\.jpg',
        ),
        (
            ClsDecoder(4, 6),
            DataSample(gt_label=torch.tensor([-2])),
            r'labels in \[0, 3\].*-1 for unlabeled.*got \[-2\] in 7\.jpg',
        ),
        (
            ClsDecoder(4, 6),
            DataSample(gt_score=torch.tensor([1.0, 1, 0, 0])),
            r'sum to 1 .*got \[1.0, 1.0, 0.0, 0.0\] in 7\.jpg.*multi_label',
        ),
        (
            ClsDecoder(4, 6, multi_label=True),
            DataSample(gt_score=torch.tensor([1.0, -1, 0, 0])),
            r'probabilities .* in 7\.jpg',
        ),
        (
            SegDecoder(4, 6),
            SegDataSample(gt_sem_seg=PixelData(data=torch.full((1, 4, 4), 4))),
            r'in \[0, 3\].*got \[4\] in 7\.jpg.*ignore_index.*reduce_zero',
        ),
        (
            SegDecoder(4, 6),
            SegDataSample(gt_sem_seg=PixelData(data=torch.zeros(4, 8, 8))),
            r'1 x H x W class indices, got \(4, 8, 8\) in 7\.jpg',
        ),
        (
            KeypointDecoder(1, 6),
            PoseDataSample(
                gt_instance_labels=InstanceData(
                    keypoint_labels=torch.full((1, 1, 2), torch.nan),
                    keypoint_weights=torch.ones(1, 1),
                )
            ),
            r'finite coordinates .*keypoint 0 in 7\.jpg',
        ),
        (
            KeypointDecoder(1, 6),
            PoseDataSample(
                gt_instance_labels=InstanceData(
                    keypoint_x_labels=torch.zeros(1, 1, 8),
                    keypoint_weights=torch.ones(1, 1),
                )
            ),
            r'got .*keypoint_x_labels.* in 7\.jpg.*RegressionLabel',
        ),
    ],
)
def test_invalid_labels_are_refused_with_the_image(decoder, sample, message):
    sample.set_metainfo(dict(img_path='7.jpg'))
    with pytest.raises(ValueError, match=message):
        decoder.loss(torch.randn(1, 6, 4, 4), [sample])


def test_label_maps_of_several_sizes_are_refused():
    samples = [
        SegDataSample(gt_sem_seg=PixelData(data=torch.zeros(1, s, s)))
        for s in (4, 8)
    ]
    with pytest.raises(ValueError, match=r'one size .* \(1, 8, 8\)'):
        SegDecoder(4, 6).loss(torch.randn(2, 6, 4, 4), samples)


def test_samples_without_an_instance_have_no_points():
    assert read_points(PoseDataSample()) is None
    sample = PoseDataSample(gt_instance_labels=InstanceData())
    assert read_points(sample) is None
