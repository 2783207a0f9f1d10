import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from repfusion_mm.models import RelationalLoss
from repfusion_mm.models.losses.relational_loss import (
    angle_cosines,
    relative_distances,
)
from tests.helpers.strategies import random_maps, seeds, sides

THEIRS = torch.randn(6, 5, 4, 4)


def test_relational_terms_match_plain_loops():
    feat = torch.randn(4, 3)
    distances = torch.cdist(feat, feat)
    mean = distances[~torch.eye(4, dtype=torch.bool)].mean()
    torch.testing.assert_close(relative_distances(feat), distances / mean)
    cosines = angle_cosines(feat)
    for i in range(4):
        for j in range(4):
            for k in range(4):
                e_j, e_k = feat[j] - feat[i], feat[k] - feat[i]
                expected = F.cosine_similarity(e_j, e_k, dim=0)
                torch.testing.assert_close(
                    cosines[i, j, k], expected, atol=1e-5, rtol=1e-4
                )


def test_relational_loss_is_invariant_to_similarity_transforms():
    rotation, _ = torch.linalg.qr(torch.randn(5, 5))
    moved = torch.einsum('nchw,cd->ndhw', 3 * THEIRS, rotation) + 2
    assert float(RelationalLoss()(moved, THEIRS)) == pytest.approx(0, abs=1e-6)
    assert RelationalLoss()(moved.flip(0), THEIRS) > 0


def test_relational_gradients_are_finite():
    same = torch.ones(3, 5, 2, 2, requires_grad=True)
    RelationalLoss()(same, torch.randn(3, 5, 2, 2)).backward()
    assert torch.isfinite(same.grad).all()


@pytest.mark.parametrize('noise', [0, 1e-7])
def test_gradients_of_copies_of_an_image_are_bounded(noise):
    """The teacher sees the copies at different timesteps."""
    student = torch.randn(6, 5, 2, 2)
    student[1] = student[0] * (1 + noise)
    student.requires_grad_()
    RelationalLoss()(student, THEIRS).backward()
    assert student.grad.abs().max() < 100


def test_batch_of_one_has_no_relations():
    one = torch.randn(1, 5, 2, 2, requires_grad=True)
    loss = RelationalLoss()(one, torch.randn(1, 5, 2, 2))
    loss.backward()
    assert loss == 0


@given(seeds, st.integers(2, 5), st.integers(1, 4), sides, sides)
def test_loss_is_not_negative_and_zero_for_equal_maps(
    seed, num_images, channels, height, width
):
    loss = RelationalLoss()
    student = random_maps(seed, num_images, channels, height, width)
    teacher = random_maps(seed + 1, num_images, channels, height, width)
    assert loss(student, teacher) >= 0
    assert loss(teacher, teacher) == pytest.approx(0, abs=1e-5)


@given(seeds, st.floats(0.05, 20), st.floats(-5, 5))
def test_loss_ignores_scale_shift_and_rotation(seed, scale, shift):
    feats = random_maps(seed, 5, 4, 1, 1)
    rotation = torch.linalg.qr(random_maps(seed + 1, 1, 1, 4, 4)[0, 0])[0]
    moved = torch.einsum('nchw,cd->ndhw', feats, rotation) * scale + shift
    assert RelationalLoss()(moved, feats).item() < 1e-3
