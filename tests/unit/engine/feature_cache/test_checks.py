import cv2
import numpy as np
import pytest
from mmengine.dataset import ConcatDataset
from mmengine.registry import DATASETS, MODELS

from repfusion_mm.engine.feature_cache import check_cached_features
from tests.helpers.cached import NUM_IMAGES, make_cache, model_config


@pytest.fixture
def cached(tmp_path, teacher_folder):
    return make_cache(tmp_path, teacher_folder, num_views=2)


def reopen(dataset):
    """Build the dataset again, as another process does."""
    return DATASETS.build(dict(
        type='repfusion_mm.CachedFeaturesDataset', dataset=dataset.dataset,
        folder=dataset.folder, num_views=dataset.num_views,
    ))  # fmt: skip


def test_cached_features_pass_with_and_without_a_wrapper(cached):
    model, dataset = cached
    check_cached_features(dataset, model)
    both = ConcatDataset([dataset.dataset, dataset.dataset])
    both.datasets = [dataset, reopen(dataset)]
    check_cached_features(both, model)


def test_data_without_cached_features_pass(cached, teacher_folder):
    config = model_config(teacher_folder)
    config['policy'] = dict(type='repfusion_mm.UniformTimestepPolicy')
    check_cached_features(cached[1].dataset, MODELS.build(config))


def test_cached_features_of_some_parts_only_are_refused(cached):
    model, dataset = cached
    mixture = ConcatDataset([dataset.dataset, dataset.dataset])
    mixture.datasets = [dataset, dataset.dataset]
    with pytest.raises(ValueError, match='got CustomDataset without them'):
        check_cached_features(mixture, model)


def test_several_timesteps_are_refused(cached, teacher_folder):
    config = model_config(teacher_folder)
    config['policy'] = dict(type='repfusion_mm.UniformTimestepPolicy')
    with pytest.raises(ValueError, match='UniformTimestepPolicy with 1000'):
        check_cached_features(cached[1], MODELS.build(config))


def test_another_teacher_is_refused(cached, teacher_folder):
    model = MODELS.build(model_config(teacher_folder, dtype='bfloat16'))
    with pytest.raises(ValueError, match=r'\(dtype: expected bfloat16, got'):
        check_cached_features(cached[1], model)


def test_missing_features_are_refused(cached, tmp_path):
    model, dataset = cached
    (tmp_path / 'features' / 'cache.json').unlink()
    with pytest.raises(FileNotFoundError, match=r'without cache\.json'):
        check_cached_features(reopen(dataset), model)


def test_changed_images_are_refused(cached, tmp_path):
    model, dataset = cached
    for i in range(NUM_IMAGES):
        image = np.zeros((16, 16, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / 'images' / f'{i}.png'), image)
    with pytest.raises(ValueError, match='or the pipeline has changed'):
        check_cached_features(dataset, model)


def test_features_that_differ_from_the_teachers_are_refused(
    cached, teacher_folder
):
    config = model_config(teacher_folder)
    config['data_preprocessor'].pop('bgr_to_rgb')
    config['channel_order'] = 'rgb'
    with pytest.raises(ValueError, match='relative to their norm, got 0'):
        check_cached_features(cached[1], MODELS.build(config))
