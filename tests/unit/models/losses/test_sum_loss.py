import pytest
import torch

from repfusion_mm.models import AttentionTransferLoss, HintLoss, SumLoss

OURS = torch.randn(6, 5, 4, 4)
THEIRS = torch.randn(6, 5, 4, 4)


def config(name, **settings):
    return dict(type=f'repfusion_mm.{name}Loss', **settings)


HINT = config('Hint', pooled=False, loss_weight=2.0)
ATTENTION = config('AttentionTransfer', loss_weight=10.0)
RELATIONAL = config('Relational')
TOKENS = config('TokenRelation')


def test_it_is_the_sum_of_its_weighted_parts():
    loss = SumLoss([HINT, ATTENTION])
    hint = 2 * HintLoss(pooled=False)(OURS, THEIRS)
    attention = AttentionTransferLoss(10.0)(OURS, THEIRS)
    torch.testing.assert_close(loss(OURS, THEIRS), hint + attention)
    terms = loss.terms(OURS, THEIRS)
    assert terms == dict(hint=hint, attention_transfer=attention)
    assert [*SumLoss([HINT, ATTENTION, HINT]).parts] == [
        'hint', 'attention_transfer', 'hint_2',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ('parts', 'needs', 'grid', 'pooled'),
    [
        ([HINT, ATTENTION], True, True, False),
        ([RELATIONAL], False, False, True),
        ([config('Hint'), RELATIONAL], True, False, True),
        # What needs a connector decides which maps are scaled.
        ([config('CosineHint'), TOKENS], True, True, True),
        ([HINT, RELATIONAL], True, False, False),
    ],
)
def test_it_needs_what_a_part_needs(parts, needs, grid, pooled):
    loss = SumLoss(parts)
    assert loss.needs_connector is needs
    assert loss.needs_grid is grid
    assert loss.pooled is pooled


def test_normalizers_of_all_parts_are_refused():
    refused = SumLoss([HINT, ATTENTION, RELATIONAL]).refused_normalizers
    assert {*refused} == {'LayerNormNormalizer', 'PHISNormalizer'}
    for parts in ([HINT, config('CosineHint')], [RELATIONAL, TOKENS]):
        refused = SumLoss(parts).refused_normalizers
        assert 'compare both' in refused['StandardizeNormalizer']
    assert SumLoss.refused_normalizers == {}


@pytest.mark.parametrize(
    ('parts', 'squared'),
    [
        ([HINT, ATTENTION], ['hint']),
        ([config('Hint', criterion='l1'), HINT], ['hint_2']),
        ([HINT, config('Hint')], ['hint', 'hint_2']),
        ([ATTENTION, RELATIONAL], []),
    ],
)
def test_its_squared_errors_have_a_constant(parts, squared):
    constants = SumLoss(parts).constant_terms(THEIRS)
    assert [*constants] == squared
    for name, value in constants.items():
        part = SumLoss(parts).parts[name]
        assert value == part.constant_loss(THEIRS)


@pytest.mark.parametrize(
    ('part', 'message'),
    [
        (None, 'losses.1 to be the config of a distillation loss'),
        ('HintLoss', 'losses.1 to be the config of a distillation loss'),
        (dict(type='repfusion_mm.SegDecoder'), 'a distillation loss'),
        (dict(type='mmpretrain.CrossEntropyLoss'), 'a distillation loss'),
        (config('Sum', losses=[HINT]), 'other than SumLoss'),
        (config('Hint', criterion='l3'), r'losses\.1\.criterion'),
        (config('TokenRelation', temperature=0), r'losses\.1\.temperature'),
    ],
)
def test_other_parts_and_their_settings_are_refused(part, message):
    with pytest.raises(ValueError, match=message):
        SumLoss([HINT, part])
