"""Labels are checked before the first iteration."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset
from mmengine.registry import DATASETS
from mmengine.structures import InstanceData, PixelData
from mmpose.structures import PoseDataSample
from mmseg.structures import SegDataSample
from torch.utils import data

from repfusion_mm.datasets import LoadImage
from repfusion_mm.engine.preflight.ignored_labels import find_ignore_index
from repfusion_mm.engine.preflight.labels import (
    check_labels,
    describe_labels,
    find_labels,
    iter_leaves,
)
from repfusion_mm.models import (
    ClsDecoder,
    DetDecoder,
    KeypointDecoder,
    SegDecoder,
)
from tests.helpers.dense_samples import pose_samples, seg_samples
from tests.helpers.toy import labeled_samples

#: A path in remote storage, whose existence is not checked.
PATH = 's3://mask.png'


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
    assert describe_labels(Listed([None]), POINTS) == 'no labels'
    dataset = ConcatDataset([Listed([None]), Listed([3], keypoints=[])])
    assert describe_labels(dataset, SegDecoder(3, 6)) == (
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


class Samples(BaseDataset):
    """Images whose pipeline packs given data samples."""

    def __init__(self, samples, infos, pipeline=(), **attributes):
        self.samples, self.infos = samples, infos
        vars(self).update(attributes)
        super().__init__(pipeline=pipeline)

    def load_data_list(self):
        return list(self.infos)

    def prepare_data(self, index):
        return dict(
            inputs=torch.zeros(3, 4, 4), data_samples=self.samples[index]
        )


class Plain(torch.utils.data.Dataset):
    """A dataset without infos."""

    def __init__(self, samples):
        self.samples = samples

    def __getitem__(self, index):
        return dict(
            inputs=torch.zeros(3, 4, 4), data_samples=self.samples[index]
        )

    def __len__(self):
        return len(self.samples)


def model(decoder, learnable=True, **preprocessor):
    return SimpleNamespace(
        decoder=decoder,
        policy=SimpleNamespace(learnable=learnable),
        data_preprocessor=SimpleNamespace(**preprocessor),
    )


CLASSES = ClsDecoder(4, in_channels=6)
POINTS = KeypointDecoder(3, in_channels=6)


def test_transforms_keep_nothing_of_images_that_are_read():
    """mmdet's CachedMosaic would mix them into the training."""
    calls = []

    class Cache:
        def __init__(self):
            self.kept = []

        def __call__(self, results):
            calls.append(results)
            self.kept.append(results)
            (sample,) = labeled_samples([results['gt_label']])
            return dict(inputs=torch.zeros(3, 4, 4), data_samples=sample)

    cache = Cache()
    dataset = Listed([0, 1])
    dataset.pipeline.transforms.append(cache)
    check_labels(dataset, model(CLASSES))
    assert calls
    assert not cache.kept
    assert dataset.pipeline.transforms == [cache]


def test_labels_of_a_dataset_without_infos_are_read():
    labeled = labeled_samples([None] * 50 + [3] * 50)
    check_labels(Plain(labeled), model(CLASSES))
    with pytest.raises(ValueError, match='expected labeled images'):
        check_labels(Plain(labeled[:50]), model(CLASSES))
    with pytest.raises(ValueError, match=r'labels in \[0, 3\].*got \[9\]'):
        check_labels(Plain(labeled_samples([9])), model(CLASSES))


def test_images_of_class_minus_one_are_unlabeled():
    check_labels(Listed([-1, -1]), model(CLASSES, learnable=False))
    with pytest.raises(ValueError, match='gt_label, which marks no image'):
        check_labels(Listed([-1, np.int64(-1)]), model(CLASSES))


def test_one_hot_labels_have_the_length_of_the_decoder():
    one_hot = dict(to_onehot=True, num_classes=4)
    check_labels(Listed([-1]), model(CLASSES, False, **one_hot))
    for number in (3, None):
        one_hot['num_classes'] = number
        with pytest.raises(ValueError, match=r'set model\.data_prep.*=4'):
            check_labels(Listed([-1]), model(CLASSES, False, **one_hot))
    one_hot['to_onehot'] = False
    check_labels(Listed([-1]), model(CLASSES, False, **one_hot))


@pytest.mark.parametrize('num_workers', [0, 1])
def test_labels_that_the_pipeline_returns_are_checked(num_workers):
    maps = [torch.full((4, 4), 0), torch.full((4, 4), 7)]
    dataset = Samples(seg_samples(maps), [dict(seg_map_path=PATH)] * 2)
    fitting = model(SegDecoder(8, 6))
    state = torch.get_rng_state(), np.random.get_state()[1].tolist()
    check_labels(dataset, fitting, num_workers)
    assert torch.equal(state[0], torch.get_rng_state())
    assert state[1] == np.random.get_state()[1].tolist()
    with pytest.raises(ValueError, match=r'in \[0, 3\].*got \[7\]'):
        check_labels(dataset, model(SegDecoder(4, 6)), num_workers)


@pytest.mark.parametrize(
    ('decoder', 'sample', 'info', 'message'),
    [
        (
            SegDecoder(4, 6),
            SegDataSample(),
            dict(seg_map_path=PATH),
            'packs gt_sem_seg, .* no labels .*LoadAnnotations',
        ),
        (
            POINTS,
            PoseDataSample(gt_instance_labels=InstanceData()),
            dict(keypoints=np.zeros((1, 3, 2))),
            'packs gt_fields or gt_instance_labels, .*GenerateTarget',
        ),
        (
            DetDecoder(4, 6),
            PoseDataSample(gt_instances=InstanceData()),
            dict(instances=[dict(bbox=[0, 0, 1, 1], bbox_label=0)]),
            r'packs gt_instances, .* gt_instances \(empty\) from Samples',
        ),
    ],
)
def test_pipelines_that_pack_no_labels_are_refused(
    decoder, sample, info, message
):
    with pytest.raises(ValueError, match=message):
        check_labels(Samples([sample], [info]), model(decoder))


@pytest.mark.parametrize(
    ('decoder', 'info', 'message'),
    [
        (CLASSES, dict(gt_label=4), r'got \[4\] in 7\.jpg'),
        (CLASSES, dict(gt_label=[1, 2]), r'got 2 in 7\.jpg; .*multi_label'),
        (CLASSES, dict(gt_score=[0, 1]), 'decoder.num_classes=4 values'),
        (
            ClsDecoder(4, 6, multi_label=True),
            dict(gt_label=[0, 0, 1, 0]),
            r'got \[0, 0, 1, 0\] in 7\.jpg; .*gt_score',
        ),
        (
            POINTS,
            dict(keypoints=np.zeros((2, 3, 2))),
            r"one instance in an image, got 2 in 7\.jpg; .*'topdown'",
        ),
        (POINTS, dict(keypoints=np.zeros((0, 3, 2))), 'labeled images'),
        (
            POINTS,
            dict(keypoints=np.zeros((1, 3, 2)), keypoints_visible=np.zeros(3)),
            'labeled images',
        ),
    ],
)
def test_the_image_of_an_invalid_label_is_named(decoder, info, message):
    dataset = Samples([], [dict(info, img_path='s3://7.jpg')])
    with pytest.raises(ValueError, match=message.replace('7', 's3://7')):
        check_labels(dataset, model(decoder))


def test_classes_that_the_data_ignores_and_the_decoder_learns_are_refused():
    samples = seg_samples([torch.ones(4, 4, dtype=torch.long)])
    infos = [dict(seg_map_path=PATH)]
    rotate = dict(type='mmseg.RandomRotate', prob=1, degree=9, seg_pad_val=0)
    size = dict(size=(8, 8), seg_pad_val=0)
    parts = [Samples(samples, infos, ignore_index=i) for i in (0, 255)]
    for dataset, preprocessor, name in (
        (ConcatDataset(parts), {}, 'Samples'),
        (Samples(samples, infos, ignore_index=0), {}, 'Samples'),
        (Samples(samples, infos, [rotate]), {}, 'RandomRotate'),
        (Samples(samples, infos), size, 'data_preprocessor.seg_pad_val'),
    ):
        check_labels(dataset, model(SegDecoder(4, 6, ignore_index=0)))
        with pytest.raises(ValueError, match=f'{name}, got 0.*ignore_index=0'):
            check_labels(dataset, model(SegDecoder(4, 6), **preprocessor))
    # Without a size, nothing is padded. 255 is no class of four.
    check_labels(dataset, model(SegDecoder(4, 6), seg_pad_val=0))
    decoder = SegDecoder(4, 6, ignore_index=0)
    check_labels(dataset, model(decoder, size=(8, 8), seg_pad_val=255))


def test_the_ignored_class_is_the_decoders_or_the_datasets():
    dataset = ConcatDataset([Listed([1]), Samples([], [{}], ignore_index=7)])
    assert find_ignore_index(dataset, model(SegDecoder(4, 6))) == 255
    assert find_ignore_index(dataset, model(None)) == 7
    assert find_ignore_index(Listed([1]), model(CLASSES)) == 255


def test_a_number_of_keypoints_is_checked_after_the_pipeline():
    # KeypointConverter may change the number in the info.
    infos = [dict(keypoints=np.zeros((1, 7, 2)))]
    samples = pose_samples(torch.full((1, 3, 2), 0.5), torch.ones(1, 3))
    check_labels(Samples(samples, infos), model(POINTS))
    samples = pose_samples(torch.full((1, 2, 2), 0.5), torch.ones(1, 2))
    with pytest.raises(ValueError, match=r'3 keypoints.*got 2;.*v to'):
        check_labels(Samples(samples, infos), model(POINTS))


class Mixed(torch.utils.data.Dataset):
    """A wrapper whose own pipeline packs what its parts return."""

    def __init__(self, dataset):
        self.dataset = dataset
        self.pipeline = [LoadImage(backend_args=dict(backend='x'))]

    def __getitem__(self, index):
        item = self.dataset[index]
        sample = SegDataSample(gt_sem_seg=PixelData(data=item['map'][None]))
        return dict(inputs=torch.zeros(3, 4, 4), data_samples=sample)

    def __len__(self):
        return len(self.dataset)


class Maps(Samples):
    def prepare_data(self, index):
        return dict(map=self.samples[index])


@pytest.mark.parametrize(
    'wrap', [Mixed, lambda x: data.ConcatDataset([Mixed(x)])]
)
def test_labels_are_read_through_wrappers_with_a_pipeline(wrap):
    maps = [torch.arange(16).view(4, 4) % 5] * 12
    info = dict(seg_map_path=PATH, img_path='not_a_local_file.png')
    dataset = wrap(Maps(maps, [info] * 12))
    check_labels(dataset, model(SegDecoder(5, 6)))
    with pytest.raises(ValueError, match=r'in \[0, 3\].*got \[4\]'):
        check_labels(dataset, model(SegDecoder(4, 6)))
    dataset = wrap(Maps([torch.full((4, 4), 255)] * 12, [info] * 12))
    with pytest.raises(ValueError, match='none in 12 labeled images'):
        check_labels(dataset, model(SegDecoder(5, 6)))


def seg_dataset(maps):
    return Samples(seg_samples(maps), [dict(seg_map_path=PATH)] * len(maps))


@pytest.mark.parametrize(
    ('decoder', 'dataset'),
    [
        (SegDecoder(4, 6), seg_dataset([torch.full((4, 4), 255)] * 80)),
        (
            POINTS,
            Samples(
                pose_samples(torch.full((9, 3, 2), 0.5), torch.zeros(9, 3)),
                [dict(keypoints=np.zeros((1, 3, 2)))] * 9,
            ),
        ),
    ],
)
def test_labels_that_do_not_count_do_not_train_a_policy(decoder, dataset):
    check_labels(dataset, model(decoder, learnable=False))
    with pytest.raises(ValueError, match=r'not ignored.*none in \d+ '):
        check_labels(dataset, model(decoder))


def test_more_images_are_read_if_no_label_counts_in_the_first():
    ignored, used = torch.full((4, 4), 255), torch.arange(16).view(4, 4) % 2
    maps = [used if i % 8 == 3 else ignored for i in range(64)]
    check_labels(seg_dataset(maps), model(SegDecoder(2, 6)))


@pytest.mark.parametrize('foreground', [255, 1])
def test_label_maps_of_one_class_are_logged(log, foreground):
    label_map = torch.zeros(4, 4, dtype=torch.long)
    label_map[1:3] = foreground
    check_labels(seg_dataset([label_map] * 9), model(SegDecoder(2, 6)))
    assert ('got only class 0 in' in log.text) == (foreground == 255)
