"""A cache of features is written atomically."""

import json

import numpy as np
import pytest

from repfusion_mm.datasets.feature_cache.writer import FeatureWriter
from repfusion_mm.engine.feature_cache.writing import write_features
from tests.helpers.cached import NUM_IMAGES, build_dataset, make_cache
from tests.helpers.toy import LAYER


def test_interrupted_writing_keeps_the_old_cache(cache, teacher_folder):
    dataset = build_dataset(cache)
    before = dataset[0]['data_samples'].teacher_feats[LAYER]
    key = json.loads(dataset.open().key_text)
    writer = FeatureWriter(dataset.folder, key, dataset.settings)
    feats = {LAYER: np.zeros((1, 16, 8, 8), dtype=np.float32)}
    image = dataset.view(0)['inputs'].numpy()
    with pytest.raises(KeyboardInterrupt), writer:
        writer.write([image], feats)
        raise KeyboardInterrupt
    with pytest.raises(ValueError, match='expected 12 rows, got 1'), writer:
        writer.write([image], feats)
    assert {path.name for path in cache.iterdir()} == {'images', 'features'}
    after = build_dataset(cache)[0]['data_samples'].teacher_feats[LAYER]
    assert np.array_equal(before, after)


def test_killed_writing_leaves_no_cache(cache):
    """A killed process leaves its temporary folder."""
    features = cache / 'features'
    features.rename(cache / 'features.tmp')
    with pytest.raises(FileNotFoundError, match='was interrupted; write it'):
        build_dataset(cache).open()


def test_cache_is_replaced_atomically(cache, teacher_folder):
    (cache / 'features.tmp').mkdir()
    (cache / 'features.tmp' / 'rest').touch()
    model, dataset = make_cache(cache, teacher_folder, num_views=1)
    assert len(np.load(cache / 'features' / f'{LAYER}.npy')) == NUM_IMAGES
    assert not (cache / 'features.tmp').exists()
    write_features(model, dataset, batch_size=1)
    assert dataset[5]


def test_a_cache_at_a_symbolic_link_is_replaced(cache, teacher_folder):
    scratch = cache / 'scratch'
    scratch.mkdir()
    (cache / 'features').rename(scratch / 'features')
    (cache / 'features').symlink_to(scratch / 'features')
    _, dataset = make_cache(cache, teacher_folder, num_views=1)
    assert (cache / 'features').is_symlink()
    assert len(np.load(scratch / 'features' / f'{LAYER}.npy')) == NUM_IMAGES
    assert [path.name for path in scratch.iterdir()] == ['features']
    assert dataset[5]


def test_features_that_overflow_float16_are_not_written(tmp_path):
    key = dict(layers={LAYER: [1, 1, 1]})
    settings = dict(num_images=1, num_views=1, seed=0)
    writer = FeatureWriter(str(tmp_path / 'features'), key, settings)
    feats = {LAYER: np.full((1, 1, 1, 1), 7e4, dtype=np.float32)}
    with pytest.raises(ValueError, match=r'within \+-65504.*7e\+04'), writer:
        writer.write([np.zeros(1)], feats)
    assert list(tmp_path.iterdir()) == []


def test_images_of_several_shapes_are_not_written(tmp_path):
    key = dict(layers={})
    settings = dict(num_images=2, num_views=1, seed=0)
    writer = FeatureWriter(str(tmp_path / 'features'), key, settings)
    images = [np.zeros((3, 8, 8)), np.zeros((3, 8, 9))]
    with pytest.raises(ValueError, match='images of one shape'), writer:
        writer.write(images, {})
