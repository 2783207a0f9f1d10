import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from repfusion_mm.models import TokenRelationLoss
from tests.helpers.strategies import random_maps, seeds, sides

OURS = torch.randn(3, 5, 4, 4)
THEIRS = torch.randn(3, 7, 4, 4)


@pytest.mark.parametrize('temperature', [0.07, 0.5])
def test_it_is_the_divergence_of_the_similarities_of_each_position(
    temperature,
):
    total = 0.0
    for image in range(3):
        for i in range(16):
            rows = []
            for feat in (OURS[image], THEIRS[image]):
                positions = feat.flatten(1).T
                cosines = F.cosine_similarity(positions[i][None], positions)
                rows.append(torch.softmax(cosines / temperature, 0))
            student, teacher = rows
            total += (teacher * (teacher / student).log()).sum()
    loss = TokenRelationLoss(temperature, loss_weight=10)
    torch.testing.assert_close(
        loss(OURS, THEIRS), 10 * total / 48, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_maps_are_compared_in_float32_under_autocast(dtype):
    maps = [feat.to(dtype) for feat in (OURS, THEIRS)]
    with torch.autocast('cpu', dtype=torch.bfloat16):
        actual = TokenRelationLoss()(*maps)
    assert actual == TokenRelationLoss()(*(feat.float() for feat in maps))


def test_the_student_is_resized_to_the_teachers_grid():
    """Two halves of an image in any number of positions and channels."""
    halves = torch.zeros(2, 3, 8, 8)
    halves[:, 0, :, :4] = halves[:, 1, :, 4:] = 1
    coarse = torch.zeros(2, 2, 2, 2)
    coarse[:, 0, :, 0] = coarse[:, 1, :, 1] = 5
    loss = TokenRelationLoss(0.5)
    resized = F.interpolate(halves, size=(2, 2), mode='area')
    assert loss(resized, coarse) < 1e-6
    assert loss(halves, coarse) < 0.1 < loss(halves.mT, coarse)


@given(seeds, st.integers(1, 3), st.integers(1, 4), sides, st.integers(2, 5))
def test_loss_is_not_negative_and_ignores_scale(
    seed, num_images, channels, height, width
):
    student = random_maps(seed, num_images, channels, height, width)
    teacher = random_maps(seed + 1, num_images, channels, height, width)
    loss = TokenRelationLoss()
    assert loss(student, teacher) >= -1e-5
    assert loss(3 * teacher, teacher) == pytest.approx(0, abs=1e-4)


def test_memory_until_the_backward_pass_is_that_of_the_docstring():
    held = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        return tensor

    student = torch.randn(2, 3, 16, 16, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
        loss = TokenRelationLoss()(student, torch.randn(2, 3, 16, 16))
    assert sum(held.values()) == pytest.approx(8 * 2 * 256**2, rel=0.1)
    assert loss.requires_grad
