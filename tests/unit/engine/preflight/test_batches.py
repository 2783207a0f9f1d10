from types import SimpleNamespace

import pytest
from mmengine.dataset import (
    BaseDataset,
    ConcatDataset,
    DefaultSampler,
    InfiniteSampler,
)
from torch.utils.data import DataLoader

from repfusion_mm.datasets import ProportionalSampler, SeededBatchSampler
from repfusion_mm.engine.preflight.batches import (
    check_baseline,
    check_batches,
    check_loss,
)
from repfusion_mm.models import ClsDecoder, RelationalLoss


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


@pytest.mark.parametrize(('size', 'drop_last'), [(9, False), (3, True)])
def test_batches_of_an_endless_sampler_are_never_incomplete(size, drop_last):
    sampler = InfiniteSampler(range(size))
    batches = SeededBatchSampler(sampler, 4, drop_last)
    loader = DataLoader(range(size), batch_sampler=batches)
    check_batches(loader)
    assert [len(batch) for batch, _ in zip(loader, range(3))] == [4, 4, 4]


def test_losses_between_images_need_as_many():
    model = SimpleNamespace(distill_loss=RelationalLoss())
    for size, fits in ((3, True), (2, False)):
        batches = SeededBatchSampler(DefaultSampler(range(9)), size)
        loader = SimpleNamespace(batch_sampler=batches)
        if fits:
            check_loss(model, loader)
            continue
        with pytest.raises(ValueError, match='3 images or more for Relation'):
            check_loss(model, loader)


class Labels(BaseDataset):
    def __init__(self, labels):
        self.labels = labels
        super().__init__()

    def load_data_list(self):
        return [dict(gt_label=label) for label in self.labels]


def test_the_baseline_of_the_batch_needs_two_labels():
    dataset = ConcatDataset([Labels([1] * 6), Labels([-1] * 6)])

    def check(size, proportions, kind='batch'):
        model = SimpleNamespace(
            policy=SimpleNamespace(baseline=SimpleNamespace(kind=kind)),
            decoder=ClsDecoder(4, in_channels=6),
        )
        sampler = DefaultSampler(dataset)
        if proportions:
            sampler = ProportionalSampler(dataset, proportions)
        check_baseline(model, DataLoader(dataset, size, sampler=sampler))

    check(4, (1, 1))
    check(4, None)
    check(3, None)  # a warning
    check(4, (1, 3), 'ema')
    for size, proportions in ((4, (1, 3)), (2, None)):
        with pytest.raises(ValueError, match=r"1 on average.*baseline='ema'"):
            check(size, proportions)
