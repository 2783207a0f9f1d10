import torch
import torch.nn.functional as F

from repfusion_mm.models.losses.utils import relative_std, standardize

OURS = torch.randn(6, 5, 4, 4)
THEIRS = torch.randn(6, 5, 4, 4)


def test_standardize_matches_batch_norm():
    expected = F.batch_norm(THEIRS, None, None, training=True, eps=1e-12)
    torch.testing.assert_close(standardize(THEIRS), expected)
    assert standardize(torch.ones(1, 5)).abs().max() == 0


def test_relative_std_of_equal_images_is_zero():
    assert relative_std(OURS[:1].expand(6, -1, -1, -1)) < 1e-6
    pooled = OURS.mean((2, 3))
    expected = pooled.var(0, unbiased=False).mean() / pooled.pow(2).mean()
    torch.testing.assert_close(relative_std(OURS), expected.sqrt())
    torch.testing.assert_close(relative_std(1e-3 * OURS), relative_std(OURS))


def test_channels_without_spread_become_zero():
    """Their rounding errors would be scaled to variance one."""
    feat = torch.stack(
        [5 + 1e-6 * torch.randn(64), 5 + 1e-2 * torch.randn(64)], 1
    )
    standardized = standardize(feat)
    assert standardized[:, 0].abs().max() == 0
    torch.testing.assert_close(
        standardized[:, 1].std(unbiased=False), torch.tensor(1.0)
    )
