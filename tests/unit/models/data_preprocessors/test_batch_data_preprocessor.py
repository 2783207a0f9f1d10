import copy

import pytest
import torch
from mmengine.registry import MODELS
from mmengine.structures import PixelData

from repfusion_mm.models.utils.image_range import to_unit_range
from tests.helpers.toy import batch, distiller_config
from tests.unit.models.distillers.test_device import step_on_meta

IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
CROP = dict(type='RandomCrop', size=(16, 16), padding=4)
FLIP = dict(type='RandomHorizontalFlip', p=0.5)
RESIZED_CROP = dict(type='RandomResizedCrop', size=(16, 16))


def build(**arguments):
    return MODELS.build(
        dict(type='repfusion_mm.BatchDataPreprocessor', **arguments)
    )


@pytest.mark.parametrize(
    'arguments',
    [
        dict(),
        IMAGENET,
        dict(bgr_to_rgb=True, **IMAGENET),
        dict(rgb_to_bgr=True, **IMAGENET),
        dict(mean=[127.5], std=[127.5]),
    ],
)
def test_result_equals_that_of_mmengine_without_augmentations(arguments):
    theirs = MODELS.build(
        dict(type='mmengine.ImgDataPreprocessor', **arguments)
    )
    data = batch()
    expected = theirs(copy.deepcopy(data))['inputs']
    stacked = dict(data, inputs=torch.stack(data['inputs']))
    ours = build(**arguments)
    torch.testing.assert_close(ours(data)['inputs'], expected)
    torch.testing.assert_close(ours(stacked, True)['inputs'], expected)
    assert ours(dict(inputs=data['inputs']))['data_samples'] is None


def test_images_are_augmented_in_training_only():
    preprocessor = build(bgr_to_rgb=True, augments=[CROP, FLIP], **IMAGENET)
    data = batch(labels=[0, None, 1, None])
    plain = preprocessor(data)['inputs']
    augmented = preprocessor(data, training=True)['inputs']
    assert augmented.shape == plain.shape
    assert not torch.allclose(augmented, plain)
    torch.testing.assert_close(preprocessor(data)['inputs'], plain)


def test_teacher_gets_the_augmented_images():
    flip = dict(type='RandomHorizontalFlip', p=1.0)
    preprocessor = build(bgr_to_rgb=True, augments=[flip], **IMAGENET)
    data = batch()
    inputs = preprocessor(data, training=True)['inputs']
    images = to_unit_range(inputs, preprocessor, 'rgb')
    expected = torch.stack(data['inputs']).flip(1, 3) / 255
    torch.testing.assert_close(images, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize('mode', ['slice', 'resample'])
def test_crops_are_exact_under_autocast(mode):
    """kornia crops by matrix products, which AMP would round."""
    preprocessor = build(augments=[dict(CROP, cropping_mode=mode)])
    data = batch(num_images=64)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        crops = preprocessor(data, training=True)['inputs']
    padded = torch.nn.functional.pad(torch.stack(data['inputs']), (4,) * 4)
    windows = padded.unfold(2, 16, 1).unfold(3, 16, 1)  # N x 3 x 9 x 9 x ...
    errors = (windows - crops[:, :, None, None]).abs().amax((1, 4, 5))
    assert errors.flatten(1).amin(1).max() < 0.01
    places = errors.flatten(1).argmin(1)
    assert len(places.unique()) > 20


@pytest.mark.parametrize(
    ('convert', 'weights'),
    [('bgr_to_rgb', [0.114, 0.587, 0.299]),
     ('rgb_to_bgr', [0.299, 0.587, 0.114])],
)  # fmt: skip
def test_colors_are_augmented_as_rgb(convert, weights):
    gray = dict(type='RandomGrayscale', p=1.0)
    preprocessor = build(augments=[gray], **{convert: True})
    data = batch()
    inputs = preprocessor(data, training=True)['inputs']
    images = torch.stack(data['inputs']).float()
    expected = torch.einsum('nchw,c->nhw', images, torch.tensor(weights))
    torch.testing.assert_close(inputs[:, 0], expected, atol=0.1, rtol=0)


@pytest.mark.parametrize('augment', [CROP, FLIP, RESIZED_CROP])
@pytest.mark.parametrize('mode', ['slice', 'resample'])
def test_augmentation_does_not_synchronize(augment, mode):
    """Reading values from the device raises on 'meta'."""
    pytest.importorskip('kornia', minversion='0.9', reason='0.8 synchronizes')
    if augment is not FLIP:
        augment = dict(augment, cropping_mode=mode)
    preprocessor = build(bgr_to_rgb=True, augments=[augment], **IMAGENET)
    preprocessor.to('meta')
    done = preprocessor(batch(), training=True)
    assert done['inputs'].device.type == 'meta'
    assert done['inputs'].shape == (4, 3, 16, 16)
    labels = [sample.gt_label for sample in done['data_samples']]
    assert {label.device.type for label in labels} == {'cpu'}
    with pytest.raises(RuntimeError, match='meta'):
        done['inputs'].sum().item()


def distiller():
    """Return config overrides of a distiller's data preprocessor."""
    return dict(
        data_preprocessor=dict(
            type='repfusion_mm.BatchDataPreprocessor',
            bgr_to_rgb=True,
            augments=[CROP, FLIP],
            **IMAGENET,
        )
    )


def test_distiller_trains_with_it():
    model = MODELS.build(distiller_config(**distiller()))
    data = model.data_preprocessor(batch(), training=True)
    losses = model(**data, mode='loss')
    assert all(value.isfinite().all() for value in losses.values())
    assert not any('preprocessor' in key for key in model.state_dict())


def test_step_with_labels_on_the_host_does_not_synchronize():
    pytest.importorskip('kornia', minversion='0.9', reason='0.8 synchronizes')
    statistics = step_on_meta(**distiller())
    assert {value.device.type for value in statistics.values()} == {'meta'}
    assert 'reward' in statistics


def test_mmpretrain_classifier_trains_and_predicts():
    classifier = MODELS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            data_preprocessor=dict(
                type='repfusion_mm.BatchDataPreprocessor',
                augments=[CROP, FLIP],
                samples_on_device=True,
                **IMAGENET,
            ),
            backbone=distiller_config()['student'],
            neck=dict(type='mmpretrain.GlobalAveragePooling'),
            head=dict(
                type='mmpretrain.LinearClsHead',
                num_classes=10,
                in_channels=64,
            ),
        )
    )
    data = classifier.data_preprocessor(batch(), training=True)
    assert classifier(**data, mode='loss')['loss'] > 0
    assert len(classifier.val_step(batch())) == 4
    # Labels are moved to the device of the head's logits.
    classifier.to('meta')
    data = classifier.data_preprocessor(batch())
    assert data['data_samples'][0].gt_label.device.type == 'meta'
    assert classifier(**data, mode='loss')['loss'].device.type == 'meta'


@pytest.mark.parametrize(
    'label', ['gt_sem_seg', 'gt_instances', 'gt_instance_labels', 'gt_fields']
)
def test_dense_labels_are_refused_with_crops(label):
    data = batch()
    field = PixelData(data=torch.zeros(1, 16, 16))
    data['data_samples'][2].set_data({label: field})
    with pytest.raises(ValueError, match=f'move pixels, got {label}'):
        build(augments=[CROP])(data, training=True)
    build(augments=[dict(type='RandomGrayscale')])(data, training=True)
    build(augments=[CROP])(data)


@pytest.mark.parametrize(
    'kind',
    ['RandomElasticTransform', 'RandomThinPlateSpline', 'RandomFisheye'],
)
def test_dense_labels_are_refused_with_warps(kind):
    """kornia does not count them among those that are geometric."""
    ranges = {}
    if kind == 'RandomFisheye':
        box = torch.tensor([-0.3, 0.3])
        ranges = dict(center_x=box, center_y=box, gamma=box + 1)
    data = batch()
    field = PixelData(data=torch.zeros(1, 16, 16))
    data['data_samples'][0].set_data(dict(gt_sem_seg=field))
    with pytest.raises(ValueError, match='move pixels, got gt_sem_seg'):
        build(augments=[dict(type=kind, **ranges)])(data, training=True)


def test_images_of_different_sizes_are_refused():
    images = [*batch()['inputs'], torch.zeros(3, 8, 8, dtype=torch.uint8)]
    with pytest.raises(ValueError, match=r'one size in a batch.*resize'):
        build()(dict(inputs=images))
    with pytest.raises(ValueError, match='N x 3 x H x W for 3 means'):
        build(**IMAGENET)(dict(inputs=torch.zeros(2, 1, 8, 8)))


def test_batch_augments_are_refused():
    with pytest.raises(ValueError, match='no batch_augments'):
        build(batch_augments=dict(augments='Mixup'))
