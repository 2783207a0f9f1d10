import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from repfusion_mm.models import HintLoss
from tests.helpers.strategies import random_maps, seeds, sides

OURS = torch.randn(6, 5, 4, 4)
THEIRS = torch.randn(6, 5, 4, 4)


def test_hint_compares_pooled_or_dense_features():
    pooled = (OURS.mean((2, 3)) - THEIRS.mean((2, 3))).pow(2).mean()
    dense = (OURS - THEIRS).abs().mean()
    torch.testing.assert_close(HintLoss()(OURS, THEIRS), pooled)
    loss = HintLoss(pooled=False, criterion='l1', loss_weight=10)
    torch.testing.assert_close(loss(OURS, THEIRS), 10 * dense)


def test_dense_hint_resizes_the_student_to_the_teachers_grid():
    loss = HintLoss(pooled=False)
    constant = torch.full((2, 5, 7, 9), 3.0)
    assert loss(constant, torch.full((2, 5, 4, 4), 3.0)) < 1e-9


@pytest.mark.parametrize('pooled', [True, False])
def test_the_loss_of_a_constant_is_that_of_the_mean_of_all_images(pooled):
    loss = HintLoss(pooled=pooled, loss_weight=10)
    images = torch.randn(500, 5, 1, 1) * 2 + torch.randn(500, 5, 4, 4)
    mean = images.mean((0, 2, 3), keepdim=True).expand_as(images)
    expected = loss(mean, images).item()
    assert loss.constant_loss(images) == pytest.approx(expected, rel=1e-2)


def test_the_explained_variance_of_an_absolute_error_is_unknown():
    assert HintLoss(criterion='l1').constant_loss(THEIRS) is None


def test_unknown_criterion_is_refused():
    with pytest.raises(ValueError, match='criterion to be one of'):
        HintLoss(criterion='l3')


@given(seeds, st.integers(2, 5), st.integers(1, 4), sides, sides)
@pytest.mark.parametrize(
    'loss', [HintLoss(), HintLoss(pooled=False, criterion='l1')]
)
def test_loss_is_not_negative_and_zero_for_equal_maps(
    loss, seed, num_images, channels, height, width
):
    student = random_maps(seed, num_images, channels, height, width)
    teacher = random_maps(seed + 1, num_images, channels, height, width)
    assert loss(student, teacher) >= 0
    assert loss(teacher, teacher) == pytest.approx(0, abs=1e-5)
