import numpy as np
import pytest
import torch
import torch.nn.functional as F

from repfusion_mm.models.normalizers import LayerNormNormalizer
from tests.helpers.normalizer_maps import batches

MAPS = batches(1)[0]


def test_each_position_is_that_of_torch():
    expected = F.layer_norm(MAPS.permute(0, 2, 3, 1), (12,), eps=0)
    actual = LayerNormNormalizer(12)(MAPS).permute(0, 2, 3, 1)
    torch.testing.assert_close(actual, expected)
    assert not LayerNormNormalizer(12).describe().keys() - {'type'}


def test_the_scale_does_not_matter():
    expected = LayerNormNormalizer(12)(MAPS)
    for scale in (1e-6, 1e6):
        torch.testing.assert_close(
            LayerNormNormalizer(12)(scale * MAPS), expected
        )


def test_massive_channels_are_not_part_of_the_statistics():
    maps = MAPS.clone()
    maps[:, 3] = 5000
    actual = LayerNormNormalizer(12, discard_massive=50)(maps)
    assert actual[:, 3].abs().max() == 0
    kept = np.delete(maps.double().numpy(), 3, axis=1)
    kept = (kept - kept.mean(1, keepdims=True)) / kept.std(1, keepdims=True)
    np.testing.assert_allclose(
        np.delete(actual.numpy(), 3, axis=1), kept, rtol=1e-4, atol=1e-5
    )


def test_a_number_of_images_without_effect_is_refused():
    with pytest.raises(ValueError, match=r'remove model\.normalizer\.num_im'):
        LayerNormNormalizer(12, num_images=100)
