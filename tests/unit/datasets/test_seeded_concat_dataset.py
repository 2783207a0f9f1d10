import random

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from mmengine.runner import Runner

from repfusion_mm.datasets import SeededConcatDataset
from repfusion_mm.datasets.samplers import SeededBatch


@DATASETS.register_module()
class RandomNumbers(BaseDataset):
    """Items that are an index and three random numbers."""

    METAINFO = dict(classes=('a', 'b'))

    def __init__(self, size):
        self.size = size
        super().__init__()

    def load_data_list(self):
        return [dict(index=i) for i in range(self.size)]

    def prepare_data(self, idx):
        drawn = random.random(), np.random.rand(), torch.rand(()).item()
        return dict(index=idx, drawn=drawn)


def build(*sizes):
    return DATASETS.build(
        dict(
            type='repfusion_mm.SeededConcatDataset',
            datasets=[dict(type='RandomNumbers', size=i) for i in sizes],
        )
    )


def build_with(*metainfos, **options):
    parts = [BaseDataset('', info, lazy_init=True) for info in metainfos]
    return SeededConcatDataset(parts, lazy_init=True, **options)


LABELED = dict(classes=('a', 'b'), palette=[[0, 0, 0]], sigmas=np.ones(2))


@pytest.mark.parametrize(
    'metainfos',
    [
        (LABELED, {}),
        ({}, LABELED),
        ({}, LABELED, {}, dict(LABELED)),
        (LABELED, dict(classes=['a', 'b'])),
    ],
)
def test_a_dataset_may_lack_meta_information(metainfos):
    metainfo = build_with(*metainfos).metainfo
    assert metainfo.keys() == LABELED.keys()
    assert metainfo['classes'] == ('a', 'b')


@pytest.mark.parametrize(
    'other',
    [
        dict(classes=('b', 'a')),
        dict(classes=('a', 'b', 'c')),
        dict(sigmas=np.zeros(2)),
        dict(sigmas=None),
        dict(palette=[[0, 0, 1]]),
    ],
)
def test_other_meta_information_is_refused(other):
    (key,) = other
    with pytest.raises(ValueError, match=rf'same {key} .*datasets\[2\]'):
        build_with({}, LABELED, other)
    dataset = build_with({}, LABELED, other, ignore_keys=key)
    assert dataset.metainfo[key] is not None


def test_wrapped_datasets_are_concatenated():
    numbers = dict(type='RandomNumbers', size=2)
    parts = [dict(type='RepeatDataset', dataset=numbers, times=2), numbers]
    assert len(SeededConcatDataset(parts)) == 6


def states():
    return random.getstate(), np.random.get_state()[1].tolist()


def test_a_batch_is_read_with_its_seed():
    dataset = build(2, 3)
    assert isinstance(dataset, SeededConcatDataset)
    assert dataset.metainfo == dict(classes=('a', 'b'))
    before = states(), torch.get_rng_state()
    batch = dataset.__getitems__(SeededBatch([1, 2], (0, 0, 4, 8)))
    assert states() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    torch.rand(1), np.random.rand(), random.random()
    assert dataset.__getitems__(SeededBatch([1, 2], (0, 0, 4, 8))) == batch
    other = dataset.__getitems__(SeededBatch([1, 2], (0, 0, 5, 8)))
    assert [i['index'] for i in other] == [i['index'] for i in batch] == [1, 0]
    drawn = [number for item in (*batch, *other) for number in item['drawn']]
    assert len(set(drawn)) == len(drawn)


def test_other_batches_are_read_unseeded():
    dataset = build(2)
    first, second = (dataset.__getitems__([0, 1]) for _ in range(2))
    assert [i['index'] for i in first] == [0, 1]
    assert first != second


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('length', [None, 2])
def test_batches_do_not_depend_on_the_number_of_workers(workers, length):
    """Also where mmengine cuts an epoch short (num_batch_per_epoch)."""
    loader = dict(
        batch_size=2,
        num_workers=workers,
        dataset=build(6),
        sampler=dict(type='DefaultSampler', shuffle=True),
        batch_sampler=dict(type='repfusion_mm.SeededBatchSampler'),
        collate_fn=dict(type='default_collate'),
    )
    if length is not None:
        loader['num_batch_per_epoch'] = length
    loader = Runner.build_dataloader(loader, seed=0)
    dataset = build(6)
    batches = list(loader)
    assert len(batches) == (length or 3)
    for batch, seeded in zip(batches, loader.batch_sampler):
        expected = dataset.__getitems__(seeded)
        assert batch['index'].tolist() == [i['index'] for i in expected]
        drawn = torch.stack(batch['drawn'], 1).tolist()
        assert drawn == [list(i['drawn']) for i in expected]
