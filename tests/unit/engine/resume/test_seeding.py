"""Training loops continue at the batch after their last one."""

import pickle
from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import BaseDataset, DefaultSampler, InfiniteSampler
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from repfusion_mm.datasets import SeededBatchSampler, SeededConcatDataset
from repfusion_mm.engine.resume.seeding import (
    EndlessBatches,
    fast_forward,
    seed_batches,
)


class Indices(BaseDataset):
    """Items that are their index; the indices that are read are recorded."""

    def __init__(self, size):
        self.size = size
        self.read = []
        super().__init__(serialize_data=False)

    def load_data_list(self):
        return [dict(index=i) for i in range(self.size)]

    def prepare_data(self, idx):
        self.read.append(idx)
        return idx


def build(sampler_type, size=7, batch_size=2):
    dataset = SeededConcatDataset([Indices(size)])
    sampler = sampler_type(dataset, seed=3)
    return DataLoader(
        dataset,
        batch_sampler=SeededBatchSampler(sampler, batch_size),
        collate_fn=list,
    )


def take(batches, count):
    return [next(batches) for _ in range(count)]


@pytest.mark.parametrize('sampler_type', [DefaultSampler, InfiniteSampler])
@pytest.mark.parametrize('num_done', [0, 3, 4, 6])
def test_a_loop_of_iterations_continues(sampler_type, num_done):
    """Four batches an epoch: within the first one, at its end, later."""
    expected = take(EndlessBatches(build(sampler_type), 0), 12)[num_done:]
    loader = build(sampler_type)
    loop = SimpleNamespace(
        dataloader=loader, iter=num_done, dataloader_iterator=iter(loader)
    )
    fast_forward(loop)
    ignored = take(loop.dataloader_iterator, num_done)
    assert ignored == [None] * num_done
    assert take(loop.dataloader_iterator, len(expected)) == expected
    (indices,) = loader.dataset.datasets
    assert indices.read == [i for batch in expected for i in batch]


class BatchesOfTwo:
    """A batch sampler of one's own, without the attributes of torch's."""

    def __len__(self):
        return 3

    def __iter__(self):
        yield from ([0, 1], [2, 3], [4, 5])


def test_other_batch_samplers_have_the_batch_size_of_the_config():
    loop = SimpleNamespace(
        dataloader=DataLoader(Indices(6), batch_sampler=BatchesOfTwo())
    )
    seed_batches(loop, dict(batch_size=2), 0)
    assert loop.dataloader.batch_size == 2
    assert loop.dataloader.batch_sampler.batch_size == 2


def test_forks_that_skip_batches_themselves_are_told_not_to():
    loader = build(InfiniteSampler)
    loop = SimpleNamespace(
        dataloader=loader,
        iter=3,
        dataloader_iterator=iter(loader),
        fast_forward_on_resume=False,
    )
    fast_forward(loop)
    assert loop.fast_forward_on_resume
    expected = take(EndlessBatches(build(InfiniteSampler), 0), 4)[3]
    assert next(loop.dataloader_iterator) == expected


@pytest.mark.parametrize('num_done', [0, 1, 4])
def test_a_loop_of_epochs_continues_within_the_epoch(num_done):
    def epoch(num_done):
        loader = build(DefaultSampler)
        loader.batch_sampler.sampler.set_epoch(2)
        num_before = 2 * len(loader)
        loop = SimpleNamespace(
            dataloader=loader, iter=num_before + num_done, epoch=2
        )
        fast_forward(loop)
        return list(loader), list(loader)

    complete, following = epoch(0)
    assert epoch(num_done) == (complete[num_done:], following)


class Stream(IterableDataset):
    """Items without an index."""

    def __iter__(self):
        return iter(range(4))


@pytest.mark.parametrize(
    ('loader', 'message'),
    [
        (DataLoader(Stream(), batch_size=2), 'got Stream, an IterableDataset'),
        (DataLoader(range(4), batch_size=None), 'got batch_size=None'),
    ],
)
def test_what_cannot_be_continued_is_refused(loader, message):
    with pytest.raises(ValueError, match=message):
        seed_batches(SimpleNamespace(dataloader=loader), None, 0)


@pytest.mark.parametrize('by_config', [False, True])
def test_hooks_can_read_the_batch_size_and_the_sampler(by_config):
    """That of mmpretrain's PreciseBNHook divides by the batch size."""
    loader = build(DefaultSampler)
    if not by_config:
        loader = DataLoader(
            loader.dataset,
            2,
            sampler=DefaultSampler(loader.dataset),
            collate_fn=list,
        )
    loop = SimpleNamespace(dataloader=loader)
    for _ in range(2):
        seed_batches(loop, None, 0)
        loader = loop.dataloader
        assert loader.batch_size == 2
        assert loader.sampler is loader.batch_sampler.sampler
        assert isinstance(loader.sampler, DefaultSampler)
        assert [len(batch) for batch in loader] == [2, 2, 2, 1]


def test_a_batch_size_that_is_unknown_stays_unknown():
    batches = [[0, 1], [2]]
    loop = SimpleNamespace(
        dataloader=DataLoader(range(3), batch_sampler=batches)
    )
    seed_batches(loop, None, 0)
    assert loop.dataloader.batch_size is None


def test_the_other_settings_of_a_dataloader_are_kept():
    settings = dict(
        num_workers=1,
        collate_fn=list,
        timeout=3,
        worker_init_fn=print,
        prefetch_factor=5,
        persistent_workers=True,
        generator=torch.Generator(),
    )
    dataset = TensorDataset(torch.arange(7))
    loader = DataLoader(dataset, 2, True, drop_last=True, **settings)
    loop = SimpleNamespace(dataloader=loader)
    seed_batches(loop, None, 5)
    assert loop.dataloader is not loader
    for name, value in settings.items():
        assert getattr(loop.dataloader, name) == value
    assert loop.dataloader.dataset is dataset
    batches = loop.dataloader.batch_sampler
    assert (batches.batch_size, batches.drop_last) == (2, True)
    assert batches.sampler is loader.sampler
    assert batches.seed == 5 and len(loop.dataloader) == 3
    before = loop.dataloader
    seed_batches(loop, None, 5)  # a second hook changes nothing
    assert loop.dataloader is before


def test_an_epoch_without_a_batch_is_refused_by_another_check():
    loader = DataLoader(range(3), batch_size=4, drop_last=True)
    seed_batches(SimpleNamespace(dataloader=loader), None, 0)


class Batches(TensorDataset):
    """Items that are read together, and then augmented."""

    def __getitems__(self, indices):
        noise = torch.rand(len(indices))
        return [*(self.tensors[0][indices] + noise)]


def test_datasets_that_read_batches_get_lists_of_indices():
    """And the seed of the batch, so that noise is repeated."""
    found = []
    for _ in range(2):
        dataset = Batches(torch.arange(4.0))
        loop = SimpleNamespace(dataloader=DataLoader(dataset, 2))
        seed_batches(loop, None, 0)
        found += [torch.stack([*loop.dataloader])]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0].floor(), torch.tensor([[0, 1.0], [2, 3]]))
    pickle.loads(pickle.dumps(dataset))  # for workers that are not forked
