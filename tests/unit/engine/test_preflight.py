import cv2
import numpy as np
import pytest
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset
from mmengine.registry import DATASETS, MODELS
from torch.utils.data import DataLoader

from repfusion_mm.engine.preflight import (
    check_batches,
    check_cached_features,
    describe_labels,
    find_labels,
)
from tests.helpers.cached import NUM_IMAGES, make_cache, model_config


class Listed(BaseDataset):
    """Labels in memory; None leaves an image unlabelled."""

    def __init__(self, labels, **info):
        self.labels, self.info = labels, info
        super().__init__()

    def load_data_list(self):
        return [
            {} if label is None else dict(gt_label=label, **self.info)
            for label in self.labels
        ]


def labels_of(dataset):
    return find_labels(dataset, 'gt_label')


def test_labels_are_found_through_wrappers():
    dataset = ConcatDataset(
        [Listed([0, 9]), Listed([None, None]), Listed([np.array([4])])]
    )
    assert labels_of(dataset) == [0, 9, 4]
    assert labels_of(RepeatDataset(Listed([0, 9]), times=3)) == [0, 9]
    assert find_labels(dataset, 'seg_map_path') == []


def test_labels_are_named_with_what_reads_them():
    assert describe_labels(Listed([None])) == 'no labels at all'
    dataset = ConcatDataset([Listed([None]), Listed([3], keypoints=[])])
    assert describe_labels(dataset) == (
        'gt_label, which ClsDecoder reads, '
        'keypoints, which KeypointDecoder reads'
    )


def test_files_of_labelled_images_must_be_there(tmp_path):
    there, gone = tmp_path / 'there.png', tmp_path / 'gone.png'
    there.touch()
    assert labels_of(Listed([1], img_path=str(there))) == [1]
    assert labels_of(Listed([1], img_path='s3://bucket/a.png')) == [1]
    assert labels_of(Listed([None], img_path=str(gone))) == []
    for path in (dict(img_path=str(gone)), dict(seg_map_path=str(gone))):
        with pytest.raises(FileNotFoundError, match=r'gone\.png'):
            labels_of(Listed([1], **path))


def test_batches_of_one_image_or_none_are_refused():
    check_batches(DataLoader(range(8), batch_size=4))
    check_batches(DataLoader(range(9), batch_size=4, drop_last=True))
    check_batches(DataLoader(range(3), batch_size=1))
    with pytest.raises(ValueError, match='drop_last=True'):
        check_batches(DataLoader(range(9), batch_size=4))
    with pytest.raises(ValueError, match='got 3 images'):
        check_batches(DataLoader(range(3), batch_size=4, drop_last=True))


@pytest.fixture
def cached(tmp_path, teacher_folder):
    return make_cache(tmp_path, teacher_folder, num_views=2)


def unopened(dataset):
    """Return the data set as another process would build it."""
    return DATASETS.build(dict(
        type='repfusion_mm.CachedFeaturesDataset', dataset=dataset.dataset,
        folder=dataset.folder, num_views=dataset.num_views,
    ))  # fmt: skip


def test_cached_features_pass_alone_and_wrapped(cached):
    model, dataset = cached
    check_cached_features(dataset, model)
    both = ConcatDataset([dataset.dataset, dataset.dataset])
    both.datasets = [dataset, unopened(dataset)]
    check_cached_features(both, model)


def test_data_without_cached_features_are_not_asked_for_any(teacher_folder):
    config = model_config(teacher_folder)
    config['policy'] = dict(type='repfusion_mm.UniformTimestepPolicy')
    check_cached_features(Listed([None]), MODELS.build(config))


def test_labels_behind_cached_features_are_found_once():
    dataset = DATASETS.build(dict(
        type='repfusion_mm.CachedFeaturesDataset', dataset=Listed([4, None]),
        folder='nowhere', num_views=3,
    ))  # fmt: skip
    assert labels_of(dataset) == [4]


def test_features_of_some_parts_alone_are_refused(cached):
    model, dataset = cached
    mixture = ConcatDataset([dataset.dataset, dataset.dataset])
    mixture.datasets = [dataset, dataset.dataset]
    with pytest.raises(ValueError, match='got CustomDataset without them'):
        check_cached_features(mixture, model)


def test_several_timesteps_are_refused_before_the_first_step(
    cached, teacher_folder
):
    config = model_config(teacher_folder)
    config['policy'] = dict(type='repfusion_mm.UniformTimestepPolicy')
    with pytest.raises(ValueError, match='UniformTimestepPolicy with 1000'):
        check_cached_features(cached[1], MODELS.build(config))


def test_another_teacher_is_refused_before_the_first_step(
    cached, teacher_folder
):
    model = MODELS.build(model_config(teacher_folder, dtype='bfloat16'))
    with pytest.raises(ValueError, match=r'\(dtype: expected bfloat16, got'):
        check_cached_features(cached[1], model)


def test_missing_features_are_seen_before_the_first_step(cached, tmp_path):
    model, dataset = cached
    (tmp_path / 'features' / 'cache.json').unlink()
    with pytest.raises(FileNotFoundError, match=r'without cache\.json'):
        check_cached_features(unopened(dataset), model)


def test_changed_images_are_seen_before_the_first_step(cached, tmp_path):
    model, dataset = cached
    for i in range(NUM_IMAGES):
        image = np.zeros((16, 16, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / 'images' / f'{i}.png'), image)
    with pytest.raises(ValueError, match='or the pipeline has changed'):
        check_cached_features(dataset, model)


def test_features_that_the_teacher_does_not_give_are_seen(
    cached, teacher_folder
):
    config = model_config(teacher_folder)
    config['data_preprocessor'].pop('bgr_to_rgb')
    config['channel_order'] = 'rgb'
    with pytest.raises(ValueError, match='relative to their norm, got 0'):
        check_cached_features(cached[1], MODELS.build(config))
