import numpy as np
import pytest

from repfusion_mm.analysis.probe.measurement import permutations
from repfusion_mm.analysis.probe.results import (
    COLUMNS,
    describe_timesteps,
    find_best,
    label_p_value,
    read_best,
    timestep_p_value,
    within_one_se,
    write_table,
)
from tests.helpers.probe_measurements import KINDS, as_dict, given, probe

#: Of each kind of labels, the fraction that does not count.
MISSING = [(kind, 0) for kind in KINDS]
MISSING += [('masks', 0.4), ('keypoints', 0.4)]


def by_index(measurements):
    return dict(enumerate(measurements))


def test_the_best_has_the_highest_r2_of_the_images_that_are_scored():
    measured = by_index([given(0.3), given(0.5, score=0.1), given(0.4, 0.1)])
    assert find_best(measured) == 1
    measured[2].skill[:10] = np.nan  # the mean of the others is higher
    assert find_best(measured) == 2


def test_those_within_a_standard_error_of_the_difference_are_as_good():
    """The difference is paired by image, so not that of the errors."""
    best = given(0.8, error=0.3)
    paired, other = given(0.79, error=0.3), given(0.79, error=0.3, seed=0)
    noise = np.linspace(-1, 1, 20) / 20**0.5
    noise -= noise.mean()
    size = noise.std(ddof=1) / 20**0.5
    above, below = (
        best._replace(skill=best.skill - 0.01 + noise * f * 0.01 / size)
        for f in (1.01, 0.99)
    )
    measured = by_index([paired, best, other, above, below])
    assert within_one_se(measured) == [1, 2, 3]
    assert within_one_se({5: best}) == [5]


def test_images_that_only_one_of_two_scores_are_not_compared():
    best, other = given(0.8), given(0.8)
    other.skill[0] = np.nan
    best.skill[1] = np.nan
    assert within_one_se(by_index([best, other])) == [0, 1]


@pytest.mark.parametrize(('kind', 'missing'), MISSING)
def test_nothing_is_said_of_labels_that_are_independent(kind, missing):
    """Of the best of three timesteps, in at least 19 of 20 draws."""
    passed = [
        label_p_value(by_index(probe(kind, [0, 0, 0], seed, missing))) <= 0.01
        for seed in range(20)
    ]
    assert sum(passed) <= 1


@pytest.mark.parametrize(('kind', 'missing'), MISSING)
def test_permuted_labels_have_the_r2_that_is_observed_of_them(kind, missing):
    """So a random order of labels passes a test with its nominal rate."""
    order = next(permutations(20, tuple))
    first = probe(kind, [1, 2], missing=missing)
    second = probe(kind, [1, 2], missing=missing, order=order)
    for m, permuted in zip(first, second):
        assert m.null[0] == pytest.approx(permuted.observed)
        assert m.null[0] != pytest.approx(m.observed)


@pytest.mark.parametrize('kind', KINDS)
def test_a_signal_at_one_timestep_is_found(kind):
    for seed in range(5):
        measured = by_index(probe(kind, [0, 3, 0], seed))
        assert label_p_value(measured) == 0.01
        assert find_best(measured) == 1


def test_the_p_value_counts_permutations_as_good_as_the_best():
    measured = by_index([given(0.5, p_value=0.05), given(0.5, p_value=0.03)])
    assert label_p_value(measured) == 0.05
    # Only the best one is compared, with all permutations.
    measured[2] = given(0.6, p_value=0.02)
    measured[0].null[-2:] = 0.6
    assert label_p_value(measured) == 0.04


@pytest.mark.parametrize('kind', KINDS)
def test_timesteps_of_the_same_signal_do_not_differ(kind):
    differ = [
        timestep_p_value(by_index(probe(kind, [1.5] * 4, seed))) <= 0.05
        for seed in range(30)
    ]
    assert sum(differ) <= 5, sum(differ)  # 1.5 are expected


@pytest.mark.parametrize('kind', KINDS)
def test_timesteps_of_different_signals_differ(kind):
    differ = [
        timestep_p_value(by_index(probe(kind, [4, 4, 0, 0], seed))) <= 0.05
        for seed in range(10)
    ]
    assert sum(differ) >= 8, sum(differ)


def test_a_single_timestep_and_equal_ones_do_not_differ():
    assert timestep_p_value({0: given(0.5)}) == 1
    assert timestep_p_value(by_index([given(0.5)] * 3)) == 1
    rounded = given(0.5)._replace(skill=given(0.5).skill + 1e-12)
    assert timestep_p_value(by_index([given(0.5), rounded])) == 1


def test_images_that_are_not_scored_do_not_hide_a_difference():
    measured = by_index([given(0.5), given(0.3), given(0.3, seed=0)])
    for m in measured.values():
        m.skill[3] = np.nan
    assert timestep_p_value(measured) < 0.05


@pytest.mark.parametrize(
    ('chosen', 'text'),
    [
        ([0], '0'),
        ([100, 0], '0 to 100'),
        ([0, 100, 300], '0 to 100, 300'),
        ([300, 500, 100], '100, 300 to 500'),
        ([999, 300, 0], '0, 300, 999'),
        ([999, 200, 0, 100, 500, 300], '0 to 999'),
    ],
)
def test_timesteps_that_follow_each_other_are_a_range(chosen, text):
    assert describe_timesteps(chosen, [999, 0, 200, 100, 500, 300]) == text


def test_a_table_is_read(tmp_path):
    path = tmp_path / 'probe.csv'
    assert read_best(path) is None
    measured = {
        **as_dict([given(0.2, score=0.9), given(0.3)], 'low'),
        **as_dict([given(0.5, score=0.6), given(0.7, score=0.4)], 'high'),
        **as_dict([given(0.6)], 'high', 'noised'),
    }
    write_table(measured, path)
    scores, label = read_best(path)
    assert scores == {0: 0.6, 100: 0.4}
    assert label == 'linear probe\nclean\nhigh'
    head, _, second, *others = path.read_text().splitlines()
    assert head == ','.join(COLUMNS)
    assert second == 'clean,low,100,0.30000,0.02000,0.30000,0.20000,0.40000'
    assert len(others) == 3


@pytest.mark.parametrize(
    'text',
    [
        '',
        'a,b\n',
        'mode,layer,1,50,0,0.5\n',
        'input_mode,layer\n',
        # Of an earlier version.
        'input_mode,layer,timestep,num_labels,split,score\n'
        'clean,mid,0,50,0,0.5\n',
        ','.join(COLUMNS) + '\n',
        ','.join(COLUMNS) + '\nclean,mid,0,0.5,0.1,0.5,0.4,0.6\nclean,mi',
        ','.join(COLUMNS) + '\nclean,mid,zero,0.5,0.1,0.5,0.4,0.6\n',
    ],
)
def test_other_and_damaged_tables_are_refused(tmp_path, text):
    (tmp_path / 'probe.csv').write_text(text)
    message = r'probe\.csv, got something else.*run probe_timesteps.py again'
    with pytest.raises(ValueError, match=message):
        read_best(tmp_path / 'probe.csv')


def test_binary_tables_are_refused(tmp_path):
    (tmp_path / 'probe.csv').write_bytes(b'\xff\xfe\x00')
    with pytest.raises(ValueError, match=r'probe\.csv, got something else'):
        read_best(tmp_path / 'probe.csv')


def test_grids_on_which_nothing_can_be_permuted_are_left_out():
    few = given(0.1)._replace(null=np.empty(0))
    many = given(0.5, seed=1)
    assert label_p_value(by_index([few, many])) == label_p_value(
        by_index([many])
    )
    assert label_p_value(by_index([few])) == 1
