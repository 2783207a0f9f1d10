import pytest
from mmengine.dataset import DefaultSampler
from torch.utils.data import DataLoader

from repfusion_mm.datasets import SeededBatchSampler
from repfusion_mm.engine.preflight.batches import check_batches


def test_batches_of_one_image_or_none_are_refused():
    check_batches(DataLoader(range(8), batch_size=4))
    check_batches(DataLoader(range(9), batch_size=4, drop_last=True))
    check_batches(DataLoader(range(3), batch_size=1))
    with pytest.raises(ValueError, match=r'train_dataloader\.drop_last=True'):
        check_batches(DataLoader(range(9), batch_size=4))
    with pytest.raises(ValueError, match='got 3 images'):
        check_batches(DataLoader(range(3), batch_size=4, drop_last=True))


def test_batches_of_a_batch_sampler_are_checked_too():
    def loader(size, drop_last):
        sampler = DefaultSampler(range(size))
        batch_sampler = SeededBatchSampler(sampler, 4, drop_last)
        return DataLoader(range(size), batch_sampler=batch_sampler)

    check_batches(loader(9, True))
    with pytest.raises(ValueError, match=r'batch_sampler\.drop_last=True'):
        check_batches(loader(9, False))
