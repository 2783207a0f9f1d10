import pytest
import torch

from repfusion_mm.models.losses.utils import channel_variance, relative_std

OURS = torch.randn(6, 5, 4, 4)


def test_relative_std_of_equal_images_is_zero():
    assert relative_std(OURS[:1].expand(6, -1, -1, -1)) < 1e-6
    pooled = OURS.mean((2, 3))
    expected = pooled.var(0, unbiased=False).mean() / pooled.pow(2).mean()
    torch.testing.assert_close(relative_std(OURS), expected.sqrt())
    torch.testing.assert_close(relative_std(1e-3 * OURS), relative_std(OURS))


def test_the_variance_of_few_images_is_that_of_many():
    """Positions of an image share its level, so they are no samples."""
    torch.manual_seed(0)
    images = torch.randn(3000, 5, 1, 1) * 2 + torch.randn(3000, 5, 4, 4) + 3
    pairs = [channel_variance(pair) for pair in images.split(2)]
    assert torch.stack(pairs).mean() == pytest.approx(2**2 + 1, rel=0.05)
    assert channel_variance(images) == pytest.approx(2**2 + 1, rel=0.05)
