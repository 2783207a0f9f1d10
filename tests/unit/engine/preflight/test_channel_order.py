"""An image of one color shows which channel order the teacher gets."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset
from mmengine.registry import DATASETS, MODELS
from torch.utils.data import Subset

from repfusion_mm.engine.preflight.channel_order import check_channel_order
from tests.helpers.toy import MiniCIFAR10, distiller_config, save_cifar10

NUMBERS = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
PACK = dict(type='mmpretrain.PackInputs')
TO_PIL = dict(type='mmpretrain.NumpyToPIL', to_rgb=True)
#: Steps of a pipeline, and the order that they return for files.
PIPELINES = {
    'mmcv': ([dict(type='mmcv.LoadImageFromFile'), PACK], 'bgr'),
    'pillow': (
        [dict(type='repfusion_mm.LoadImage', imdecode_backend='pillow'), PACK],
        'bgr',
    ),
    'PIL': ([dict(type='repfusion_mm.LoadImage'), TO_PIL, PACK], 'rgb'),
    'mmcv Normalize': (
        [
            dict(type='repfusion_mm.LoadImage'),
            dict(type='mmcv.Normalize', mean=[0] * 3, std=[1] * 3,
                 to_rgb=True),
            PACK,
        ],
        'rgb',
    ),
    'colors': (
        [
            dict(type='repfusion_mm.LoadImage'),
            dict(type='mmpretrain.ColorJitter', brightness=0.4, contrast=0.4,
                 saturation=0.4),
            dict(type='mmpretrain.RandomGrayscale', prob=0.2,
                 keep_channels=True),
            dict(type='mmpretrain.RandomErasing', erase_prob=1.0),
            dict(type='mmpretrain.RandomCrop', crop_size=40, padding=8),
            PACK,
        ],
        'bgr',
    ),
}  # fmt: skip
REVERSED = {'rgb': 'bgr', 'bgr': 'rgb'}


class Files(BaseDataset):
    def load_data_list(self):
        return [dict(img_path=self.ann_file, gt_label=0)]


class Arrays(BaseDataset):
    """Arrays of an order that nothing declares."""

    def load_data_list(self):
        return [dict(img=np.zeros((16, 16, 3), np.uint8), gt_label=0)]


@pytest.fixture(scope='module')
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp('files') / 'first.jpg'
    cv2.imwrite(str(path), np.zeros((40, 48, 3), np.uint8))
    return str(path)


def files(path, steps):
    return Files(ann_file=path, pipeline=steps)


def cifar(tmp_path, steps=()):
    if not (tmp_path / 'cifar-10-batches-py').exists():
        save_cifar10(tmp_path)
    return MiniCIFAR10(tmp_path, 'train', pipeline=[*steps, PACK])


def build(order, **conversion):
    preprocessor = dict(
        type='mmengine.ImgDataPreprocessor', **NUMBERS, **conversion
    )
    return MODELS.build(
        distiller_config(channel_order=order, data_preprocessor=preprocessor)
    )


@pytest.fixture(scope='module')
def models():
    """Each order and conversion that the model accepts."""
    return {
        (None, True): build(None, bgr_to_rgb=True),
        ('bgr', None): build('bgr'),
        ('rgb', None): build('rgb'),
        ('bgr', False): build('bgr', rgb_to_bgr=True),
    }


def is_right(loaded, order, converts):
    """Return whether a model gets the order that it declares."""
    returned = REVERSED[loaded] if converts is not None else loaded
    return returned == (order or 'rgb')


@pytest.mark.parametrize('name', PIPELINES)
def test_orders_of_files_are_right_or_refused(path, models, name):
    steps, loaded = PIPELINES[name]
    for (order, converts), model in models.items():
        dataset = files(path, steps)
        if is_right(loaded, order, converts):
            check_channel_order(dataset, model)
            continue
        with pytest.raises(ValueError, match='blue for red') as caught:
            check_channel_order(dataset, model)
        assert f'pipeline return {loaded}' in str(caught.value)


def test_the_pipeline_of_a_dataset_of_its_own_is_named(path, models):
    """The step that the message gives reverses the channels."""
    model = models[None, True]
    steps = [dict(type='repfusion_mm.LoadImage'), TO_PIL, PACK]
    with pytest.raises(ValueError, match='blue for red') as caught:
        check_channel_order(files(path, steps), model, 'probe_dataset')
    message = str(caught.value)
    assert 'images are bgr, make the pipeline of probe_dataset' in message
    assert 'otherwise set bgr_to_rgb' in message
    start, end = message.index('dict('), message.index(' reverses channels')
    step = eval(message[start:end])
    check_channel_order(
        files(path, [steps[0], step, step, PACK]), model, 'probe_dataset'
    )
    with pytest.raises(ValueError, match='blue for red'):
        check_channel_order(files(path, [steps[0], step, PACK]), model)


def test_files_without_an_extension_are_traced(tmp_path, path, models):
    bare = tmp_path / 'image'
    bare.write_bytes(Path(path).read_bytes())
    with pytest.raises(ValueError, match='blue for red'):
        check_channel_order(
            files(str(bare), PIPELINES['PIL'][0]), models[None, True]
        )


def test_arrays_of_mmpretrain_are_rgb(tmp_path, models):
    for (order, converts), model in models.items():
        dataset = cifar(tmp_path)
        if is_right('rgb', order, converts):
            check_channel_order(dataset, model)
            continue
        with pytest.raises(ValueError, match='MiniCIFAR10 and its pipeline'):
            check_channel_order(dataset, model)


def test_parts_of_wrappers_are_checked(path, tmp_path, models):
    right = files(path, PIPELINES['mmcv'][0])
    wrong = cifar(tmp_path)
    model = models[None, True]
    for wrap in (
        lambda part: ConcatDataset([right, part], ignore_keys=['classes']),
        lambda part: RepeatDataset(part, 2),
        lambda part: Subset(part, [0]),
        lambda part: DATASETS.build(dict(
            type='repfusion_mm.CachedFeaturesDataset', dataset=part,
            folder='nowhere')),
    ):  # fmt: skip
        check_channel_order(wrap(right), model)
        with pytest.raises(ValueError, match='MiniCIFAR10'):
            check_channel_order(wrap(wrong), model)


@pytest.mark.parametrize(
    'augmentation',
    [
        dict(type='mmpretrain.Invert', prob=1.0),
        dict(type='mmpretrain.Solarize', thr=128, prob=1.0),
        dict(type='mmpretrain.Posterize', bits=1, prob=1.0),
        dict(type='mmpretrain.Equalize', prob=1.0),
        dict(type='mmpretrain.RandomGrayscale', prob=1.0, keep_channels=True),
        dict(type='mmpretrain.ColorJitter', hue=0.5),
        dict(type='mmpretrain.Lighting', eigval=[55.4625, 4.794, 1.1475],
             eigvec=[[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140],
                     [-0.5836, -0.6948, 0.4203]], alphastd=0.1),
        dict(type='mmpretrain.RandAugment', policies='timm_increasing',
             num_policies=2, magnitude_level=9),
        dict(type='mmpretrain.AutoAugment', policies='imagenet'),
    ],
    ids=lambda config: config['type'],
)  # fmt: skip
def test_color_augmentations_are_not_refused(path, models, augmentation):
    load = dict(type='repfusion_mm.LoadImage')
    dataset = files(path, [load, augmentation, PACK])
    check_channel_order(dataset, models[None, True])


class DropMost:
    """Drop three of four images, as a crop without boxes does."""

    def __call__(self, results):
        return results if np.random.rand() < 0.25 else None


def test_draws_without_an_image_do_not_count(path, models):
    dataset = files(path, PIPELINES['mmcv'][0])
    dataset.pipeline.transforms.insert(1, DropMost())
    check_channel_order(dataset, models[None, True])
    with pytest.raises(ValueError, match='blue for red'):
        check_channel_order(dataset, models['rgb', None])


def test_a_subtracted_mean_is_refused_for_bright_images_too(path, models):
    normalize = dict(
        type='mmcv.Normalize', mean=[103.53, 116.28, 123.675], std=[1] * 3,
        to_rgb=False,
    )  # fmt: skip
    load = dict(type='repfusion_mm.LoadImage')
    dataset = files(path, [load, normalize, PACK])
    model = build('bgr')
    model.data_preprocessor._enable_normalize = False
    with pytest.raises(ValueError, match='a mean was subtracted'):
        check_channel_order(dataset, model)


@pytest.mark.parametrize(
    ('mean', 'std', 'cause'),
    [
        (NUMBERS['mean'], NUMBERS['std'], 'already normalized'),
        ([127.5] * 3, [127.5] * 3, 'already normalized'),
        ([0] * 3, [255] * 3, r'in \[0, 1\]'),
    ],
)
@pytest.mark.parametrize('position', [0, 1])
def test_each_part_has_images_of_8_bits(
    path, models, position, mean, std, cause
):
    """The part may only be seen in later batches."""
    load = dict(type='repfusion_mm.LoadImage')
    normalize = dict(type='mmcv.Normalize', mean=mean, std=std, to_rgb=False)
    parts = [files(path, [load, PACK]), files(path, [load, normalize, PACK])]
    dataset = ConcatDataset(parts[:: 1 if position else -1])
    with pytest.raises(ValueError, match=cause) as caught:
        check_channel_order(dataset, models[None, True])
    assert 'from Files' in str(caught.value)


def test_transforms_keep_no_image_of_a_check(path, models):
    """mmdet's CachedMosaic would mix it into the training."""

    class Cache:
        def __init__(self):
            self.images = []

        def __call__(self, results):
            self.images.append(results['img'])
            return results

    cache = Cache()
    dataset = files(path, [dict(type='mmcv.LoadImageFromFile'), cache, PACK])
    check_channel_order(dataset, models[None, True])
    assert not cache.images


def test_black_images_are_not_refused(path, models):
    erase = dict(
        type='mmpretrain.RandomErasing', erase_prob=1.0, mode='const',
        min_area_ratio=0.9, max_area_ratio=0.95, fill_color=(0, 0, 0),
    )  # fmt: skip
    dark = dict(type='mmcv.Normalize', mean=[220] * 3, std=[1e9] * 3)
    load = dict(type='repfusion_mm.LoadImage')
    for step in (erase, dark):
        check_channel_order(
            files(path, [load, step, PACK]), models[None, True]
        )


def test_what_cannot_be_checked_is_logged(path, models, log):
    load = dict(type='repfusion_mm.LoadImage')
    remote = files('s3://bucket/image.jpg', [load, PACK])
    fails = files(path, [load, dict(type='mmcv.LoadAnnotations'), PACK])
    for dataset, reason in (
        (Arrays(pipeline=[PACK]), 'neither local files'),
        (remote, 'neither local files'),
        (fails, 'KeyError'),
    ):
        log.clear()
        check_channel_order(dataset, models[None, True])
        assert reason in log.text
        assert 'must return rgb images' in log.text


def test_no_random_state_is_advanced(path, models):
    steps = PIPELINES['colors'][0]
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    check_channel_order(files(path, steps), models[None, True])
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()
