"""Each sentence appears when it should, and only then."""

import numpy as np
import pytest

from repfusion_mm.analysis.probe.tasks.classification import ClassTask
from repfusion_mm.analysis.probe.verdict import (
    NOTHING,
    TOO_FEW,
    describe,
    is_better,
    is_informative,
)
from tests.helpers.probe_measurements import as_dict, given

SENTENCES = {
    'nothing': NOTHING,
    'too few': TOO_FEW,
    'no difference': 'No timestep is better than another here',
    'as good': 'distinguishable from it (R² within one standard error): ',
    'pixels as good': 'Raw pixels are as good for a linear model',
    'pixels better': 'Raw pixels are better for a linear model',
}
BASELINES = {'raw pixels': given(0.1), 'no image': given(0.0, 0.0)}


def said(measured, baselines=BASELINES):
    text = describe(measured, baselines, 'accuracy')
    return {name for name, words in SENTENCES.items() if words in text}


def curve(*r2, layer='mid', mode='clean', **settings):
    measured = [given(value, seed=i, **settings) for i, value in enumerate(r2)]
    return as_dict(measured, layer, mode)


def test_the_best_and_the_baselines_are_named():
    text = describe(curve(0.2, 0.8, 0.7), BASELINES, 'accuracy').splitlines()
    assert text[0] == (
        'best: accuracy 0.800 (95% interval 0.700 to 0.900), R² 0.800 '
        '(standard error 0.020), at t = 100, layer mid, clean input'
    )
    assert text[1:3] == [
        'raw pixels: accuracy 0.100 (95% interval 0.000 to 0.200)',
        'no image: accuracy 0.000 (95% interval -0.100 to 0.100)',
    ]


def test_if_permuted_labels_are_as_good_nothing_else_is_said():
    measured = curve(0.1, 0.8, p_value=0.02)
    assert said(measured) == {'nothing'}
    assert not is_informative(measured)
    assert said(measured, {'raw pixels': given(0.9)}) == {'nothing'}
    assert said(curve(0.1, 0.8)) == {'as good'}


@pytest.mark.parametrize(
    ('num_images', 'names'), [(4, 'too few'), (8, 'too few'), (10, None)]
)
def test_labels_that_are_too_few_for_a_test_are_named(num_images, names):
    """The labels are predicted perfectly, but so are those of swapped classes.

    Of four or eight images, few other permutations exist; of ten images of two
    classes, 126.
    """
    labels = np.arange(num_images) % 2
    feats = 0.01 * np.random.default_rng(0).normal(size=(num_images, 1, 1, 3))
    feats[..., 0] += labels[:, None, None]
    measured = ClassTask([*labels]).measure(feats, (1, 1))
    expected = {names} if names else set()
    assert said(as_dict(measured), {}) == expected
    feats[:] = 1
    measured = ClassTask([*labels]).measure(feats, (1, 1))
    assert said(as_dict(measured), {}) == {names or 'nothing'}


def test_timesteps_that_differ_are_ranked():
    measured = curve(0.8, 0.805, 0.5, 0.3, 0.8)
    assert said(measured) == {'as good'}
    text = describe(measured, {}, 'accuracy')
    assert text.splitlines()[-1].endswith('mid: t = 0 to 100, 400')


def test_timesteps_within_the_noise_are_not_ranked():
    assert said(curve(0.8, 0.805, 0.795)) == {'no difference'}
    # The timesteps of another layer are not those of the best one.
    other = curve(0.1, 0.5, layer='low')
    measured = {**other, **curve(0.8, 0.805)}
    assert said(measured) == {'no difference', 'as good'}
    words = 'another here (mid, clean input)'
    assert words in describe(measured, {}, 'accuracy')
    assert said({**curve(0.1, 0.8), **curve(0.3, 0.3, layer='low')}) == {
        'as good'
    }


def test_timesteps_of_five_images_are_not_compared():
    """The smallest p-value of a test of five signs is 1/16."""
    measured = curve(0.1, 0.9)
    for m in measured.values():
        m.skill[5:] = np.nan
    text = describe(measured, {}, 'accuracy')
    assert 'too few images to compare timesteps: 5 of at least 6' in text
    assert said(measured) == set()


def test_a_single_timestep_is_not_compared():
    assert said(curve(0.8)) == set()
    measured = {**curve(0.8), **curve(0.3, layer='low')}
    assert said(measured) == {'as good'}


def test_all_layers_and_modes_that_are_as_good_are_named():
    measured = {
        **curve(0.8, 0.3, 0.8),
        **curve(0.8, 0.8, 0.3, layer='low'),
    }
    text = describe(measured, {}, 'accuracy')
    assert text.endswith('mid: t = 0, 200; low: t = 0 to 100')
    measured.update(curve(0.8, 0.3, 0.3, mode='noised'))
    text = describe(measured, {}, 'accuracy')
    assert text.endswith(
        'mid, clean input: t = 0, 200; low, clean input: t = 0 to 100; '
        'mid, noised input: t = 0'
    )


@pytest.mark.parametrize(
    ('r2', 'names'),
    [
        (0.7, set()),
        (0.79, {'pixels as good'}),
        (0.81, {'pixels as good'}),
        (0.9, {'pixels better'}),
    ],
)
def test_raw_pixels_that_are_as_good_or_better_are_named(r2, names):
    pixels = {'raw pixels': given(r2, seed=9)}
    assert said(curve(0.2, 0.8), pixels) == {'as good'} | names


def test_better_means_by_1_645_standard_errors():
    one = given(0.8, error=0.3)
    noise = given(0, error=1).skill
    for difference, better in ((1.6, False), (1.7, True)):
        other = one._replace(skill=one.skill - 0.01 * (difference + noise))
        assert is_better(one, other) == better
        other.skill[0] = np.nan  # not scored
        assert not is_better(other, one)
