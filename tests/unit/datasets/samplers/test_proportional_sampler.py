import pytest

from repfusion_mm.datasets import ProportionalSampler


class Parts:
    """Replaces a ConcatDataset: the sampler only reads the lengths."""

    def __init__(self, *sizes, length=None):
        self.datasets = [range(size) for size in sizes]
        self.length = sum(sizes) if length is None else length

    def __len__(self):
        return self.length


def test_batches_contain_the_parts_in_proportion():
    sampler = ProportionalSampler(Parts(5, 100), (1, 1), num_samples=64)
    indices = list(sampler)
    assert len(indices) == len(sampler) == 64
    for start in range(0, 64, 16):
        chunk = indices[start : start + 16]
        assert sum(i < 5 for i in chunk) == 8


def test_images_are_not_repeated_before_all_were_drawn():
    sampler = ProportionalSampler(Parts(5, 30), (1, 3), num_samples=40)
    indices = list(sampler)
    first = [i for i in indices if i < 5]
    second = [i for i in indices if i >= 5]
    assert sorted(first) == sorted([*range(5), *range(5)])
    assert len(set(second)) == len(second) == 30
    assert {*second} == {*range(5, 35)}


def test_an_epoch_is_as_long_as_the_dataset():
    """mmengine cuts the dataset for num_batch_per_epoch."""
    assert len(ProportionalSampler(Parts(5, 30), (1, 1))) == 35
    assert len(ProportionalSampler(Parts(5, 30, length=8), (1, 1))) == 8


def test_epochs_differ_and_are_reproducible():
    sampler = ProportionalSampler(Parts(5, 30), (1, 1), seed=3)
    first = list(sampler)
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first
    other = ProportionalSampler(Parts(5, 30), (1, 1), seed=3)
    assert list(other) == first


def test_ranks_draw_different_images_in_the_same_proportion(monkeypatch):
    target = (
        'repfusion_mm.datasets.samplers.proportional_sampler.get_dist_info'
    )
    drawn = []
    for rank in (0, 1):
        monkeypatch.setattr(target, lambda rank=rank: (rank, 2))
        sampler = ProportionalSampler(
            Parts(40, 40), (1, 1), num_samples=80, seed=0
        )
        assert len(sampler) == 40
        drawn.append(list(sampler))
        assert sum(i < 40 for i in drawn[-1]) == 20
    assert not {*drawn[0]} & {*drawn[1]}


@pytest.mark.parametrize(
    ('parts', 'proportions', 'message'),
    [
        (Parts(3, 4), (1,), '2 positive proportions'),
        (Parts(3, 4), (1, 0), 'proportions to be'),
        (Parts(3, 0), (1, 1), 'images in every part'),
    ],
)
def test_invalid_proportions_are_refused(parts, proportions, message):
    with pytest.raises(ValueError, match=message):
        ProportionalSampler(parts, proportions)
