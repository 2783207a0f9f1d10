import torch

from repfusion_mm.models.losses.utils import relative_std

OURS = torch.randn(6, 5, 4, 4)


def test_relative_std_of_equal_images_is_zero():
    assert relative_std(OURS[:1].expand(6, -1, -1, -1)) < 1e-6
    pooled = OURS.mean((2, 3))
    expected = pooled.var(0, unbiased=False).mean() / pooled.pow(2).mean()
    torch.testing.assert_close(relative_std(OURS), expected.sqrt())
    torch.testing.assert_close(relative_std(1e-3 * OURS), relative_std(OURS))
