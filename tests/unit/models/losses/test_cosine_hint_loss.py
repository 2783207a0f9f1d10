import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from repfusion_mm.models import CosineHintLoss
from tests.helpers.strategies import random_maps, seeds, sides

OURS = torch.randn(6, 5, 4, 4)
THEIRS = torch.randn(6, 5, 4, 4)


def test_cosines_are_those_of_pooled_or_of_dense_features():
    pooled = F.cosine_similarity(OURS.mean((2, 3)), THEIRS.mean((2, 3)))
    dense = F.cosine_similarity(OURS, THEIRS)
    loss = CosineHintLoss(loss_weight=10)
    torch.testing.assert_close(loss(OURS, THEIRS), 10 * (1 - pooled.mean()))
    loss = CosineHintLoss(pooled=False)
    torch.testing.assert_close(loss(OURS, THEIRS), 1 - dense.mean())


def test_the_student_is_resized_to_the_teachers_grid():
    loss = CosineHintLoss(pooled=False)
    direction = torch.randn(2, 5, 1, 1)
    ours, theirs = direction.expand(2, 5, 7, 9), direction.expand(2, 5, 4, 4)
    assert loss(ours, theirs) < 1e-6
    assert loss(-ours, theirs).item() == pytest.approx(2)


def test_a_cosine_is_no_squared_error():
    assert CosineHintLoss().constant_terms(THEIRS) == {}


@given(seeds, st.integers(2, 5), st.integers(1, 4), sides, sides)
@pytest.mark.parametrize('pooled', [True, False])
def test_loss_is_within_its_range_and_ignores_scale(
    pooled, seed, num_images, channels, height, width
):
    student = random_maps(seed, num_images, channels, height, width)
    teacher = random_maps(seed + 1, num_images, channels, height, width)
    loss = CosineHintLoss(pooled=pooled)
    assert 0 <= loss(student, teacher) <= 2 + 1e-5
    assert loss(3 * teacher, teacher) == pytest.approx(0, abs=1e-6)
