"""A teacher is recommended if it is better than what needs no teacher."""

import numpy as np
import pytest

from repfusion_mm.analysis.probe.baselines import Untrained
from repfusion_mm.analysis.probe.measurement import smallest
from repfusion_mm.analysis.probe.recommendation import (
    NO,
    UNKNOWN,
    YES,
    recommend,
)
from repfusion_mm.analysis.probe.tasks.classification import ClassTask
from tests.helpers.probe_measurements import as_dict, given


def recommend_for(
    teacher, pixels=0.0, untrained=(0.0, 0.0), trained=None, **settings
):
    """Recommend a teacher by the R² of its features and of baselines.

    The standard error of an R² is 0.02, that of a difference 0.028.

    Args:
        teacher: R² of the teacher's features.
        pixels: R² of the pixels.
        untrained: R² of the features of untrained copies of the teacher.
        trained: R² of the teacher at the timesteps of the untrained copies.
        **settings: Other arguments of :func:`given` for the teacher.
    """
    measured = as_dict([given(teacher, seed=0, **settings)])
    baselines = {
        'raw pixels': given(pixels, seed=1),
        'no image': given(0.0, 0.0),
    }
    trained = teacher if trained is None else trained
    copies = [given(r2, seed=2 + i) for i, r2 in enumerate(untrained)]
    return recommend(
        measured, baselines, Untrained(given(trained, seed=0), copies)
    )


def test_a_teacher_above_all_baselines_is_recommended():
    found = recommend_for(0.3, 0.2, (0.1, 0.2))
    assert found.distill is True
    assert found.text.startswith(YES)
    assert '+0.300 ± 0.020 over a constant, +0.100 ± 0.0' in found.text


@pytest.mark.parametrize(
    ('settings', 'name'),
    [
        (
            dict(teacher=-0.01, pixels=-0.2, untrained=(-0.2, -0.2)),
            'a constant',
        ),
        (dict(teacher=0.2, pixels=0.3), 'raw pixels'),
        # One of two untrained networks is as good.
        (dict(teacher=0.2, untrained=(0.0, 0.21)), 'an untrained copy'),
        # The trained network at the same timesteps as the untrained ones.
        (dict(teacher=0.2, untrained=(0.1, 0), trained=0.05), 'an untrained'),
    ],
)
def test_a_teacher_below_a_baseline_is_not_recommended(settings, name):
    found = recommend_for(**settings)
    assert found.distill is False
    assert found.text.startswith(f'{NO}for a linear model its features are no')
    assert f'no better than {name}' in found.text
    assert 'Train the teacher longer' in found.text


def test_differences_within_the_noise_decide_nothing():
    found = recommend_for(0.3, 0.28)
    assert found.distill is None
    assert found.text.startswith(UNKNOWN)
    assert 'better than raw pixels, but within the noise' in found.text
    assert recommend_for(0.3, 0.2).distill is True


def test_labels_that_are_as_good_as_random_decide():
    found = recommend_for(0.3, p_value=0.02)
    assert found.distill is False
    assert found.text.startswith(NO)
    assert 'labels permuted at random as well' in found.text


def test_too_few_labels_decide_nothing():
    labels = np.arange(4) % 2
    feats = np.random.default_rng(0).normal(size=(4, 1, 1, 3))
    measured = as_dict(ClassTask([*labels]).measure(feats, (1, 1)))
    found = recommend(measured, {}, Untrained(given(0.1), []))
    assert found.distill is None
    assert 'too few' in found.text


def test_each_copy_is_compared_not_only_the_best():
    """One that is hardly worse, but of which less is known."""
    teacher = given(0.3, seed=0)
    sure = teacher._replace(skill=teacher.skill - 0.05)
    noise = np.random.default_rng(0).normal(0, 2, len(teacher.skill))
    noise -= noise.mean()
    unsure = teacher._replace(skill=teacher.skill - 0.06 + noise)
    found = recommend(
        as_dict([teacher]),
        {'raw pixels': given(0.0, seed=1), 'no image': given(0.0, 0.0)},
        Untrained(teacher, [sure, unsure]),
    )
    assert found.distill is None
    assert 'better than an untrained copy of the teacher, but' in found.text


def test_a_fit_to_one_timestep_is_less_certain():
    """As that of raw pixels, also next to a fit to several timesteps."""
    rng = np.random.default_rng(0)
    task = ClassTask(np.arange(40) % 4)
    for num_timesteps, is_own_fit in ((1, True), (3, False)):
        features = rng.normal(size=(40, num_timesteps, 1, 5))
        measured = task.measure(features, (1, 1))
        assert {m.is_own_fit for m in measured} == {is_own_fit}


@pytest.mark.parametrize(
    ('differences', 'decides'),
    [
        ([(0.1, 0.01), (0.12, 0.1)], (0.12, 0.1)),
        ([(0.1, 0.01), (0.12, 0.02)], (0.1, 0.01)),
        ([(-0.01, 0.001), (0.05, 0.1)], (-0.01, 0.001)),
    ],
)
def test_the_least_certain_difference_decides_if_none_is_below(
    differences, decides
):
    for order in (differences, differences[::-1]):
        assert smallest(order) == decides
