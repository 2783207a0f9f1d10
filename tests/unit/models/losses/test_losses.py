import pytest
import torch
import torch.nn.functional as F

from repfusion_mm.models import (
    AttentionTransferLoss,
    ConvConnector,
    HintLoss,
    RelationalLoss,
)
from repfusion_mm.models.connectors.conv_connector import resize_to
from repfusion_mm.models.losses.relational_loss import (
    angle_cosines,
    relative_distances,
)
from repfusion_mm.models.losses.utils import relative_std, standardize

OURS = torch.randn(6, 5, 4, 4)
THEIRS = torch.randn(6, 5, 4, 4)
LOSSES = [
    HintLoss(),
    HintLoss(pooled=False),
    HintLoss(criterion='l1'),
    AttentionTransferLoss(),
    RelationalLoss(),
]


@pytest.mark.parametrize('loss', LOSSES, ids=lambda x: type(x).__name__)
def test_losses_are_zero_only_where_the_two_agree(loss):
    assert float(loss(THEIRS, THEIRS)) == pytest.approx(0, abs=1e-9)
    assert loss(OURS, THEIRS) > 0


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


def test_standardised_hint_of_the_mean_is_one_at_any_scale():
    student = torch.zeros_like(THEIRS)
    for scale in (1e-3, 1.0, 1e3):
        loss = HintLoss(standardize=True)(student, scale * THEIRS + 7)
        assert float(loss) == pytest.approx(1, rel=1e-3)


def test_standardize_matches_batch_norm():
    expected = F.batch_norm(THEIRS, None, None, training=True, eps=1e-12)
    torch.testing.assert_close(standardize(THEIRS), expected)
    assert standardize(torch.ones(1, 5)).abs().max() == 0


def test_spread_is_zero_where_all_images_look_the_same():
    assert relative_std(OURS[:1].expand(6, -1, -1, -1)) < 1e-6
    pooled = OURS.mean((2, 3))
    expected = pooled.var(0, unbiased=False).mean() / pooled.pow(2).mean()
    torch.testing.assert_close(relative_std(OURS), expected.sqrt())
    torch.testing.assert_close(relative_std(1e-3 * OURS), relative_std(OURS))


def test_attention_transfer_matches_its_definition():
    maps = [F.normalize(f.pow(2).sum(1).flatten(1)) for f in (OURS, THEIRS)]
    expected = 1000 * (maps[0] - maps[1]).pow(2).mean()
    torch.testing.assert_close(AttentionTransferLoss()(OURS, THEIRS), expected)


def test_attention_transfer_ignores_channels_and_scale():
    loss = AttentionTransferLoss()
    wide = THEIRS.repeat(1, 3, 1, 1) * 11
    assert float(loss(wide, THEIRS)) == pytest.approx(0, abs=1e-6)
    assert loss(torch.randn(6, 2, 8, 8), THEIRS) > 0


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


def test_relational_gradients_are_finite():
    same = torch.ones(3, 5, 2, 2, requires_grad=True)
    RelationalLoss()(same, torch.randn(3, 5, 2, 2)).backward()
    assert torch.isfinite(same.grad).all()


def test_batch_of_one_has_no_relations():
    one = torch.randn(1, 5, 2, 2, requires_grad=True)
    loss = RelationalLoss()(one, torch.randn(1, 5, 2, 2))
    loss.backward()
    assert loss == 0


def test_unknown_criterion_is_refused():
    with pytest.raises(ValueError, match='criterion to be one of'):
        HintLoss(criterion='l3')


def test_connector_maps_channels_and_keeps_the_grid():
    connector = ConvConnector(5, 7, kernel_size=3)
    assert connector(OURS).shape == (6, 7, 4, 4)


def test_resize_returns_the_same_map_where_sizes_agree():
    assert resize_to(OURS, (4, 4)) is OURS
    assert resize_to(OURS, (2, 3)).shape == (6, 5, 2, 3)
