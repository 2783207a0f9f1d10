import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from repfusion_mm.models import AttentionTransferLoss
from tests.helpers.strategies import random_maps, seeds, sides

OURS = torch.randn(6, 5, 4, 4)
THEIRS = torch.randn(6, 5, 4, 4)


def test_attention_transfer_matches_its_definition():
    maps = [F.normalize(f.pow(2).sum(1).flatten(1)) for f in (OURS, THEIRS)]
    expected = 1000 * (maps[0] - maps[1]).pow(2).mean()
    torch.testing.assert_close(AttentionTransferLoss()(OURS, THEIRS), expected)


def test_attention_transfer_ignores_channels_and_scale():
    loss = AttentionTransferLoss()
    wide = THEIRS.repeat(1, 3, 1, 1) * 11
    assert float(loss(wide, THEIRS)) == pytest.approx(0, abs=1e-6)
    assert loss(torch.randn(6, 2, 8, 8), THEIRS) > 0


@given(seeds, st.integers(2, 5), st.integers(1, 4), sides, st.integers(2, 5))
def test_loss_is_not_negative_and_zero_for_equal_maps(
    seed, num_images, channels, height, width
):
    loss = AttentionTransferLoss()
    student = random_maps(seed, num_images, channels, height, width)
    teacher = random_maps(seed + 1, num_images, channels, height, width)
    assert loss(student, teacher) >= 0
    assert loss(teacher, teacher) == pytest.approx(0, abs=1e-5)


@given(seeds, st.floats(0.01, 100))
def test_loss_ignores_the_scale_and_order_of_the_students_channels(
    seed, scale
):
    student, teacher = (
        random_maps(seed, 3, 4, 5, 5),
        random_maps(seed + 1, 3, 6, 5, 5),
    )
    loss = AttentionTransferLoss()
    expected = loss(student, teacher).item()
    assert loss(student * scale, teacher).item() == pytest.approx(
        expected, rel=1e-3
    )
    assert loss(student.flip(1), teacher).item() == pytest.approx(
        expected, rel=1e-3
    )
