"""Compare crops and flips of batches with mmpretrain's of single images.

The value of each pixel encodes its position, so that box and flip are
recovered from the outputs of both libraries.
"""

import sys

import mmcv
import numpy as np
import pytest
import torch
from mmengine.registry import TRANSFORMS
from scipy.stats import ks_2samp

from repfusion_mm.models.data_preprocessors.batch_augments import BatchAugments

NUM_IMAGES = 4000
#: p-values: above the first, two samples count as equally distributed; a wrong
#: setting must result in a value below the second.
SAME, DIFFERENT = 0.01, 1e-6

CIFAR = [
    dict(type='mmpretrain.RandomCrop', crop_size=32, padding=4),
    dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'),
]
TINY_IMAGENET = [
    dict(type='mmpretrain.RandomResizedCrop', scale=64),
    dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'),
]
FLIP = dict(type='RandomHorizontalFlip', p=0.5)
CROP = dict(type='RandomCrop', size=(32, 32), padding=4)
RESIZED_CROP = dict(
    type='RandomResizedCrop', size=(64, 64), align_corners=False
)


def picture(side):
    """Return side x side x 3 bytes: x, y and zero, with maximal spacing."""
    places = np.arange(1, side + 1, dtype=np.uint8) * (255 // side)
    x, y = np.meshgrid(places, places)
    return np.stack([x, y, np.zeros_like(x)], axis=-1)


def by_mmpretrain(transforms, side, num_images=NUM_IMAGES):
    np.random.seed(0)
    transforms = [TRANSFORMS.build(transform) for transform in transforms]
    images = []
    for _ in range(num_images):
        results = dict(img=picture(side))
        for transform in transforms:
            results = transform(results)
        images.append(results['img'])
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()


def by_kornia(configs, side, num_images=NUM_IMAGES):
    torch.manual_seed(0)
    augments = BatchAugments(configs)
    image = torch.from_numpy(picture(side)).permute(2, 0, 1).float()
    return torch.cat(
        [
            augments(image.expand(100, -1, -1, -1))
            for _ in range(num_images // 100)
        ]
    )


def read_boxes(images):
    """Return the integer boxes and the flips that were applied, by name.

    Lines are fitted to the inner half of rows and columns, which contains no
    padding and, on the half-pixel grid, no repeated border.
    """
    side = images.shape[-1]
    inner = torch.arange(side // 4, side - side // 4)
    places = images / (255 // side) - 1
    lines = torch.stack(
        [
            places[:, 0][:, inner][:, :, inner].mean(1),
            places[:, 1][:, inner][:, :, inner].mean(2),
        ],
        dim=1,
    ).double()
    offsets = inner.double() - (side - 1) / 2
    slopes = (lines * offsets).sum(-1) / offsets.square().sum()
    (width, height) = (slopes.abs() * side).round().unbind(1)
    (x, y) = lines.mean(-1).unbind(1)
    return dict(
        left=(x - (width - 1) / 2).round(),
        top=(y - (height - 1) / 2).round(),
        area=width * height,
        log_aspect=(width / height).log(),
        flipped=(slopes[:, 0] < 0).double(),
    )


def p_values(ours, theirs):
    """Return the p-values of two-sample tests, by name."""
    ours, theirs = read_boxes(ours), read_boxes(theirs)
    return {k: ks_2samp(ours[k], theirs[k]).pvalue for k in ours}


@pytest.fixture(scope='module')
def cifar():
    return by_mmpretrain(CIFAR, side=32)


@pytest.fixture(scope='module')
def tiny_imagenet():
    return by_mmpretrain(TINY_IMAGENET, side=64)


def test_boxes_are_recovered_exactly():
    width, height, left, top = 20, 30, 40, 7
    crop = picture(64)[top : top + height, left : left + width]
    image = mmcv.imflip(mmcv.imresize(crop, (64, 64)))
    image = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
    assert {k: v.item() for k, v in read_boxes(image).items()} == dict(
        left=left,
        top=top,
        area=width * height,
        log_aspect=pytest.approx(np.log(2 / 3)),
        flipped=1,
    )


@pytest.mark.parametrize('mode', ['slice', 'resample'])
def test_padded_crops_are_distributed_as_in_mmpretrain(cifar, mode):
    ours = by_kornia([dict(CROP, cropping_mode=mode), FLIP], side=32)
    values = p_values(ours, cifar)
    assert min(values.values()) > SAME, values
    boxes = read_boxes(ours)
    assert set(boxes['left'].tolist()) == set(range(-4, 5))
    assert set(boxes['top'].tolist()) == set(range(-4, 5))


def test_resized_crops_are_distributed_as_in_mmpretrain(
    tiny_imagenet,
):
    values = p_values(by_kornia([RESIZED_CROP, FLIP], 64), tiny_imagenet)
    assert min(values.values()) > SAME, values


@pytest.mark.parametrize(
    ('wrong', 'seen'),
    [
        (dict(scale=(0.15, 1.0)), 'area'),
        (dict(scale=(0.08, 0.8)), 'area'),
        (dict(ratio=(0.8, 1.25)), 'log_aspect'),
        (dict(same_on_batch=True), 'left'),
    ],
)
def test_wrong_resized_crops_are_detected(tiny_imagenet, wrong, seen):
    ours = by_kornia([dict(RESIZED_CROP, **wrong), FLIP], side=64)
    assert p_values(ours, tiny_imagenet)[seen] < DIFFERENT


@pytest.mark.parametrize(
    ('wrong', 'seen'),
    [
        ([dict(CROP, padding=3), FLIP], 'left'),
        ([dict(CROP, padding=(4, 3)), FLIP], 'top'),
        ([CROP, dict(FLIP, p=0.6)], 'flipped'),
    ],
)
def test_wrong_padded_crops_and_flips_are_detected(cifar, wrong, seen):
    assert p_values(by_kornia(wrong, side=32), cifar)[seen] < DIFFERENT


def test_resized_crops_have_the_pixels_of_mmpretrain():
    """Within 2 of 255: OpenCV rounds weights and pixels, kornia does not."""
    images = torch.randint(0, 256, (100, 3, 64, 64)).float()
    augments = BatchAugments([RESIZED_CROP])
    crops = augments(images)
    boxes = augments.augments[0]._params['src'].numpy()
    for image, crop, box in zip(images, crops, boxes):
        image = image.permute(1, 2, 0).numpy().astype(np.uint8)
        corners = np.array([*box[0], *box[2]])  # inclusive, as in mmcv
        theirs = mmcv.imresize(mmcv.imcrop(image, corners), (64, 64))
        theirs = torch.from_numpy(theirs).permute(2, 0, 1).float()
        torch.testing.assert_close(crop, theirs, atol=2, rtol=0)


@pytest.mark.parametrize(
    ('config', 'error'),
    [
        (dict(type='RandomCorp', size=(8, 8)), 'did you mean .RandomCrop'),
        (dict(type='RandomMixUpV2'), 'expected an image augmentation'),
        (dict(CROP, p=0.5), 'p=1 for RandomCrop'),
    ],
)
def test_invalid_augmentations_are_refused(config, error):
    with pytest.raises(ValueError, match=error):
        BatchAugments([config])


def test_missing_kornia_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, 'kornia.augmentation', None)
    with pytest.raises(ImportError, match='pip install kornia'):
        BatchAugments([CROP])
