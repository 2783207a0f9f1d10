import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import DataLoader

from repfusion_mm.datasets import SeededBatchSampler


def make(size, batch_size, drop_last, epoch=0, seed=3):
    sampler = DefaultSampler(range(size), seed=seed)
    sampler.set_epoch(epoch)
    return SeededBatchSampler(sampler, batch_size, drop_last, seed)


def test_batches_are_those_of_torch_with_a_seed_each():
    batches = list(make(7, 3, drop_last=False, epoch=2))
    plain = torch.utils.data.BatchSampler(
        make(7, 3, drop_last=False, epoch=2).sampler, 3, False
    )
    assert [batch.indices for batch in batches] == list(plain)
    seeds = [batch.seed for batch in batches]
    assert seeds == [(3, 0, 2, 0), (3, 0, 2, 3), (3, 0, 2, 6)]


def test_samplers_without_epochs_continue_counting():
    sampler = SeededBatchSampler(InfiniteSampler(range(4), seed=0), 3)
    batches = iter(sampler)
    seeds = [next(batches).seed for _ in range(4)]
    assert seeds == [(0, 0, 0, i) for i in (0, 3, 6, 9)]


@settings(deadline=None, max_examples=50)
@given(
    st.integers(7, 30),
    st.integers(1, 7),
    st.booleans(),
    st.integers(0, 5),
    st.data(),
)
def test_skipped_batches_change_no_other(size, batch_size, drop, epoch, data):
    sampler = make(size, batch_size, drop, epoch)
    complete = list(sampler)
    assert len(complete) == len(sampler)
    num_skipped = data.draw(st.integers(0, len(complete)))
    sampler.num_skipped = num_skipped
    assert list(sampler) == complete[num_skipped:]
    assert list(sampler) == complete  # they are skipped once


def test_the_dataloader_refuses_what_the_batch_sampler_replaces():
    with pytest.raises(ValueError, match='mutually exclusive'):
        DataLoader(
            range(4),
            batch_sampler=make(4, 2, drop_last=False),
            drop_last=True,
        )
