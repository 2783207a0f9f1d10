"""Labels are checked before the first iteration."""

import itertools

import numpy as np
import pytest
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset
from mmengine.registry import DATASETS

from repfusion_mm.datasets import LoadImage
from repfusion_mm.engine.label_checks import (
    describe_labels,
    find_labels,
    iter_leaves,
)
from repfusion_mm.models import ClsDecoder, SegDecoder


class Listed(BaseDataset):
    """Labels in memory. None leaves an image unlabeled."""

    def __init__(self, labels, **info):
        self.labels, self.info = labels, info
        super().__init__()

    def load_data_list(self):
        return [
            {} if label is None else dict(gt_label=label, **self.info)
            for label in self.labels
        ]


def labels_of(dataset):
    decoder = ClsDecoder(10, in_channels=6)
    found = [find_labels(leaf, decoder)[1] for leaf in iter_leaves(dataset)]
    return [*itertools.chain(*found)]


def test_labels_are_found_through_wrappers():
    dataset = ConcatDataset(
        [Listed([0, 9]), Listed([None, None]), Listed([np.array([4])])]
    )
    assert labels_of(dataset) == [0, 9, 4]
    assert labels_of(RepeatDataset(Listed([0, 9]), times=3)) == [0, 9]
    assert find_labels(Listed([1]), SegDecoder(3, 6)) == ([], [], [])


def test_labels_are_described_with_the_decoders_that_read_them():
    assert describe_labels(Listed([None])) == 'no labels'
    dataset = ConcatDataset([Listed([None]), Listed([3], keypoints=[])])
    assert describe_labels(dataset) == (
        'gt_label, which ClsDecoder reads, '
        'keypoints, which KeypointDecoder reads'
    )


def test_files_of_labeled_images_must_exist(tmp_path):
    there, gone = tmp_path / 'there.png', tmp_path / 'gone.png'
    there.touch()
    assert labels_of(Listed([1], img_path=str(there))) == [1]
    assert labels_of(Listed([1], img_path='s3://bucket/a.png')) == [1]
    assert labels_of(Listed([None], img_path=str(gone))) == []
    for path in (dict(img_path=str(gone)), dict(seg_map_path=str(gone))):
        with pytest.raises(FileNotFoundError, match=r'gone\.png'):
            labels_of(Listed([1], **path))


@pytest.mark.parametrize('name', ['backend_args', 'file_client_args'])
def test_files_that_another_backend_reads_are_not_expected_on_disk(name):
    dataset = Listed([1], img_path='a.png')
    dataset.pipeline.transforms.append(LoadImage(**{name: dict(backend='x')}))
    assert labels_of(dataset) == [1]
    dataset = Listed([1], img_path='a.png')
    setattr(dataset, name, dict(backend='x'))
    assert labels_of(dataset) == [1]
    setattr(dataset, name, dict(backend='local'))
    with pytest.raises(FileNotFoundError, match=r'a\.png'):
        labels_of(dataset)


def test_labels_of_a_dataset_with_cached_features_are_found_once():
    dataset = DATASETS.build(dict(
        type='repfusion_mm.CachedFeaturesDataset', dataset=Listed([4, None]),
        folder='nowhere', num_views=3,
    ))  # fmt: skip
    assert labels_of(dataset) == [4]
