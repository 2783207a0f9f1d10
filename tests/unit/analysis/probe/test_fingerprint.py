import numpy as np
import torch

from repfusion_mm.analysis.probe.fingerprint import fingerprint_images

IMAGES = torch.randint(0, 256, (5, 3, 4, 6)) / 255
LABELS = np.arange(5)


def differing(batches, labels=LABELS):
    first = fingerprint_images([IMAGES], LABELS)
    other = fingerprint_images(batches, labels)
    return {part for part in first if first[part] != other[part]}


def test_batch_sizes_and_rounding_errors_do_not_matter():
    assert differing([IMAGES[:2] + 1e-6, IMAGES[2:] - 1e-6]) == set()


def test_differences_are_named():
    changed = IMAGES.clone()
    changed[4, 2, 3, 5] = (changed[4, 2, 3, 5] * 255 + 1) % 256 / 255
    assert differing([changed]) == {'pixels'}
    assert differing([IMAGES], LABELS[::-1]) == {'labels'}
    assert differing([IMAGES[:4]], LABELS[:4]) == {
        'num_images', 'pixels', 'labels',
    }  # fmt: skip
    assert differing([IMAGES.mT]) == {'pixels', 'sizes'}


def test_masks_of_different_sizes_are_compared():
    masks = np.empty(2, dtype=object)
    masks[:] = np.zeros((2, 3)), np.zeros((4, 5))
    other = masks.copy()
    other[1] = np.eye(4, 5)
    images = [IMAGES[:2]]
    first, second = (
        fingerprint_images(images, m)['labels'] for m in (masks, other)
    )
    assert first == fingerprint_images(images, masks.copy())['labels']
    assert first != second
