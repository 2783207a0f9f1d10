import json
import pickle
import random
import shutil

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.registry import DATASETS
from torch.utils.data import DataLoader

from tests.helpers.cached import (
    CROP,
    LOAD,
    NUM_IMAGES,
    PACK,
    build_dataset,
    dataset_config,
    save_images,
)
from tests.helpers.toy import LAYER


@pytest.fixture
def views(tmp_path):
    save_images(tmp_path / 'images')
    config = dataset_config(tmp_path / 'images', 'nowhere', num_views=3)
    return DATASETS.build(config)


def images_of(dataset):
    return [dataset.view(row)['inputs'] for row in range(len(dataset))]


def test_views_are_the_same_each_time_and_differ_from_each_other(views):
    assert len(views) == 3 * NUM_IMAGES
    first, second = images_of(views), images_of(views)
    assert all(map(torch.equal, first, second))
    for image in range(NUM_IMAGES):
        ours = first[image::NUM_IMAGES]
        assert len({i.numpy().tobytes() for i in ours}) > 1
        path = views.view(image + NUM_IMAGES)['data_samples'].img_path
        assert path.endswith(f'{image}.png')


def test_views_depend_on_the_seed_only(views, tmp_path):
    """Not on the number of views, nor on what was drawn before."""
    few = DATASETS.build(dataset_config(tmp_path / 'images', 'nowhere'))
    assert all(map(torch.equal, images_of(few), images_of(views)))
    other = dataset_config(tmp_path / 'images', 'nowhere', seed=1)
    other = DATASETS.build(other)
    assert not all(map(torch.equal, images_of(other), images_of(few)))


def test_random_states_are_restored(views):
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    images_of(views)
    assert random.getstate() == states[0]
    assert all(map(np.array_equal, np.random.get_state(), states[1]))
    assert torch.equal(torch.get_rng_state(), states[2])


def test_rows_beyond_the_end_are_refused(views):
    for row in (-1, len(views)):
        with pytest.raises(IndexError, match='expected a row in'):
            views.view(row)


def test_skipped_image_is_always_replaced_by_the_same_one():
    class Gaps(BaseDataset):
        def load_data_list(self):
            return [dict(number=i) for i in range(50)]

        def prepare_data(self, index):
            return None if index == 3 else dict(number=index)

    dataset = DATASETS.build(dict(
        type='repfusion_mm.CachedFeaturesDataset', dataset=Gaps(), folder='-'
    ))  # fmt: skip
    drawn = {dataset.view(3)['number'] for _ in range(5)}
    assert len(drawn) == 1 and drawn != {3}


def test_lazily_loaded_list_is_loaded(tmp_path):
    save_images(tmp_path / 'images')
    config = dataset_config(tmp_path / 'images', 'nowhere')
    config['dataset']['lazy_init'] = True
    dataset = DATASETS.build(config)
    assert not dataset.dataset._fully_initialized
    dataset.full_init()
    assert len(dataset) == NUM_IMAGES
    assert dataset.metainfo is not None


def test_items_have_the_written_features(cache):
    dataset = build_dataset(cache)
    array = np.load(cache / 'features' / f'{LAYER}.npy')
    assert array.dtype == np.float16
    assert array.shape == (2 * NUM_IMAGES, 16, 8, 8)
    for row in range(len(dataset)):
        sample = dataset[row]['data_samples']
        assert np.array_equal(sample.teacher_feats[LAYER], array[row])
        assert json.loads(sample.teacher_key)['timestep'] == 100


def test_features_are_opened_once_in_each_process(cache):
    dataset = build_dataset(cache)
    assert dataset.open() is dataset.open()
    other = pickle.loads(pickle.dumps(dataset))
    assert other._reader is None
    feats = [
        d[1]['data_samples'].teacher_feats[LAYER] for d in (dataset, other)
    ]
    assert np.array_equal(*feats)


@pytest.mark.parametrize('opened', [False, True])
def test_workers_read_the_same_features(cache, opened):
    dataset = build_dataset(cache)
    if opened:
        dataset.open()
    loader = DataLoader(
        dataset, batch_size=4, num_workers=2, collate_fn=pseudo_collate
    )
    samples = [s for batch in loader for s in batch['data_samples']]
    assert len(samples) == len(dataset)
    for row, sample in enumerate(samples):
        ours = dataset[row]['data_samples']
        assert sample.img_path == ours.img_path
        assert np.array_equal(
            sample.teacher_feats[LAYER], ours.teacher_feats[LAYER]
        )


def flip_byte(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def cut(path, num_bytes):
    path.write_bytes(path.read_bytes()[:num_bytes])


def edit_meta(features, **changes):
    meta = json.loads((features / 'cache.json').read_text())
    meta.update(changes)
    (features / 'cache.json').write_text(json.dumps(meta))


FEATS = f'{LAYER}.npy'
DAMAGES = {
    'no folder': (shutil.rmtree, "features', got none; write it with"),
    'no meta': (
        lambda f: (f / 'cache.json').unlink(),
        'got a folder without cache.json',
    ),
    'truncated meta': (lambda f: cut(f / 'cache.json', 40), 'got format'),
    'no key': (lambda f: edit_meta(f, key=None), 'or other fields'),
    'other layers': (
        lambda f: edit_meta(f, key=dict(layers=[])),
        'or other fields',
    ),
    'other format': (lambda f: edit_meta(f, format=2), 'format 1 .* format 2'),
    'truncated features': (lambda f: cut(f / FEATS, -1), f'damaged {LAYER}'),
    'truncated header': (lambda f: cut(f / FEATS, 20), f'damaged {LAYER}'),
    'empty features': (lambda f: cut(f / FEATS, 0), f'damaged {LAYER}'),
    'longer features': (
        lambda f: (f / FEATS).open('ab').write(b'1'),
        f'damaged {LAYER}.npy .24705 bytes',
    ),
    'no features': (lambda f: (f / FEATS).unlink(), f'damaged {LAYER}'),
    'other features': (
        lambda f: np.save(f / FEATS, np.zeros(3)),
        r'float64 of \(3,\)',
    ),
    'no CRCs': (
        lambda f: (f / 'feature_crcs.npy').unlink(),
        'damaged feature_crcs.npy',
    ),
    'changed input CRC': (
        lambda f: flip_byte(f / 'input_crcs.npy', -1),
        'damaged input_crcs.npy .other images than cache.json',
    ),
    'other number of images': (
        lambda f: (f.parent / 'images' / '0.png').unlink(),
        "'num_images': 5.* got one of .*'num_images': 6",
    ),
}


@pytest.mark.parametrize('damage', DAMAGES)
def test_damage_is_detected_on_opening(cache, damage):
    apply, message = DAMAGES[damage]
    apply(cache / 'features')
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        build_dataset(cache).open()


@pytest.mark.parametrize('settings', [dict(num_views=1), dict(seed=1)])
def test_other_views_are_refused(cache, settings):
    with pytest.raises(ValueError, match=r'got one of .*--overwrite'):
        build_dataset(cache, **settings)[0]


@pytest.mark.parametrize('name', [FEATS, 'feature_crcs.npy'])
def test_flipped_byte_is_detected_in_its_row_only(cache, name):
    flip_byte(cache / 'features' / name, -1)
    dataset = build_dataset(cache)
    last = len(dataset) - 1
    dataset[last - 1]
    with pytest.raises(ValueError, match=f'a changed row {last}'):
        dataset[last]


def test_a_changed_image_is_reported(cache):
    image = np.zeros((16, 16, 3), dtype=np.uint8)
    cv2.imwrite(str(cache / 'images' / '2.png'), image)
    dataset = build_dataset(cache)
    dataset[1]
    with pytest.raises(
        ValueError, match=r'row 8 \(image 2, view 1, .*2.png.*has changed'
    ):
        dataset[2 + NUM_IMAGES]


@pytest.mark.parametrize(
    'pipeline',
    [(LOAD, PACK), (LOAD, {**CROP, 'crop_size': 8}, PACK)],
    ids=['same shape', 'other shape'],
)
def test_a_changed_pipeline_is_refused(cache, pipeline):
    with pytest.raises(ValueError, match='the pipeline has changed'):
        build_dataset(cache, pipeline)[0]


def test_operations_that_are_not_seeded_are_reported(cache):
    dataset = build_dataset(
        cache, (LOAD, {**CROP, 'type': 'EntropyCrop'}, PACK)
    )
    with pytest.raises(ValueError, match='views are not fixed'):
        for _ in range(20):  # a crop may be the cached one by chance
            dataset[0]


@pytest.mark.parametrize(
    ('settings', 'message'),
    [(dict(num_views=0), 'num_views to be'), (dict(seed=-1), 'seed to be')],
)
def test_invalid_settings_are_refused(tmp_path, settings, message):
    save_images(tmp_path / 'images')
    config = dataset_config(tmp_path / 'images', 'nowhere', **settings)
    with pytest.raises(ValueError, match=message):
        DATASETS.build(config)


def test_unpacked_items_are_refused(cache):
    with pytest.raises(ValueError, match='PackInputs'):
        build_dataset(cache, (LOAD,))[0]
