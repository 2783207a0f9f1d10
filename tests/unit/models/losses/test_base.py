import pytest
import torch

from repfusion_mm.models import (
    AttentionTransferLoss,
    CosineHintLoss,
    HintLoss,
    RelationalLoss,
    SumLoss,
)
from repfusion_mm.models.losses import DistillLoss

LOSSES = [
    HintLoss(),
    HintLoss(pooled=False),
    AttentionTransferLoss(),
    RelationalLoss(),
    CosineHintLoss(),
    CosineHintLoss(pooled=False),
    SumLoss([dict(type='repfusion_mm.CosineHintLoss')]),
]


@pytest.mark.parametrize('loss', LOSSES, ids=lambda i: type(i).__name__)
@pytest.mark.parametrize(
    ('mean', 'spread'), [(0, 1.0), (5, 0.05), (0, 1e-6), (0, 1e4)]
)
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_losses_of_half_maps_under_autocast_are_exact(
    loss, mean, spread, dtype
):
    maps = [
        (mean + spread * torch.randn(6, 8, 4, 4)).to(dtype) for _ in range(2)
    ]
    expected = loss(*(feat.double() for feat in maps))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        actual = loss(*maps)
    assert actual.item() == pytest.approx(expected.item(), rel=1e-4)


def test_names_in_the_log_are_those_of_the_classes():
    class LossyThing2Loss(DistillLoss):
        def forward(self, student_feat, teacher_feat):
            return student_feat.sum()

    names = [loss.log_name for loss in LOSSES]
    assert names == [
        'hint', 'hint', 'attention_transfer', 'relational', 'cosine_hint',
        'cosine_hint', 'sum',
    ]  # fmt: skip
    # mmengine minimizes what has "loss" in its name.
    assert LossyThing2Loss().log_name == 'y_thing2'


@pytest.mark.parametrize('who', ['student', 'teacher'])
def test_maps_of_one_position_have_none_to_compare(who):
    """As of images that are smaller than model.input_size."""
    maps = dict(
        student=torch.rand(4, 8, 2, 2, requires_grad=True),
        teacher=torch.rand(4, 8, 2, 2),
    )
    maps[who] = maps[who][..., :1, :1]
    parts = [dict(type='repfusion_mm.AttentionTransferLoss')]
    for loss in (AttentionTransferLoss(), SumLoss(parts)):
        with pytest.raises(ValueError, match=f"got the {who}'s of 1 x 1; use"):
            loss(*maps.values())
    HintLoss()(*maps.values())


@pytest.mark.parametrize('loss', LOSSES, ids=lambda i: type(i).__name__)
def test_the_smallest_batches_of_a_loss_have_gradients(loss):
    def gradient(num_images):
        maps = [torch.rand(num_images, 8, 4, 4) for _ in range(2)]
        maps[0].requires_grad_()
        loss(*maps).backward()
        return float(maps[0].grad.abs().max())

    assert gradient(loss.min_images) > 1e-4
    if loss.min_images > 1:
        assert gradient(loss.min_images - 1) < 1e-6


def test_a_sum_needs_the_images_of_all_its_parts():
    kinds = ('HintLoss', 'RelationalLoss')
    loss = SumLoss([dict(type=f'repfusion_mm.{kind}') for kind in kinds])
    assert loss.min_images == 3
