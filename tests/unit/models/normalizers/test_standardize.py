import numpy as np
import torch

from repfusion_mm.models.normalizers import StandardizeNormalizer
from tests.helpers.normalizer_maps import batches, positions

BATCHES = batches()


def expected_map(feat, maps):
    """Return standardized maps by numpy, in float64."""
    flat = positions(maps)
    mean, std = flat.mean(0), flat.std(0)
    feat = feat.double().numpy()
    return (feat - mean[:, None, None]) / std[:, None, None]


def test_each_step_uses_the_images_so_far():
    normalizer = StandardizeNormalizer(12, num_images=18)
    for index, feat in enumerate(BATCHES):
        seen = BATCHES[: min(index + 1, 3)]
        np.testing.assert_allclose(
            normalizer(feat), expected_map(feat, seen), rtol=1e-3, atol=1e-3
        )


def test_statistics_are_exact_far_from_zero():
    """One pass over squares would lose all digits."""
    maps = [feat + 1e4 for feat in BATCHES]
    normalizer = StandardizeNormalizer(12, num_images=24)
    for feat in maps:
        normalizer(feat)
    description = normalizer.describe()
    flat = positions(maps)
    np.testing.assert_allclose(description['mean'], flat.mean(0), rtol=1e-6)
    np.testing.assert_allclose(description['std'], flat.std(0), rtol=1e-2)


def test_channels_without_spread_become_zero():
    """Their rounding errors would be scaled to variance one."""
    maps = torch.stack(
        [5 + 1e-6 * torch.randn(64), 5 + 1e-2 * torch.randn(64)], 1
    )[:, :, None, None]
    normalized = StandardizeNormalizer(2, num_images=64)(maps)
    assert normalized[:, 0].abs().max() == 0
    torch.testing.assert_close(
        normalized[:, 1].std(unbiased=False), torch.tensor(1.0)
    )


def test_statistics_are_those_of_averaged_maps_if_the_loss_compares_them():
    normalizer = StandardizeNormalizer(12, num_images=24)
    normalizer.pooled = True
    for feat in BATCHES:
        normalizer(feat)
    pooled = [feat.mean((2, 3), keepdim=True) for feat in BATCHES]
    np.testing.assert_allclose(
        normalizer(BATCHES[0]),
        expected_map(BATCHES[0], pooled),
        rtol=1e-3,
        atol=1e-3,
    )
