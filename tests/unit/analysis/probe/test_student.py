"""Whether a distilled student is better than an untrained one."""

import pytest

from repfusion_mm.analysis.probe.student import (
    UNDECIDED,
    StudentProbe,
    describe_student,
)
from tests.helpers.probe_measurements import given

INITIAL = [given(0.1, seed=1), given(0.2, seed=2)]


@pytest.mark.parametrize(
    ('r2', 'words'),
    [
        (0.5, 'is better than an untrained one for a linear model'),
        (0.15, 'is not better than an untrained one'),
        (0.21, 'These labels cannot tell'),
    ],
)
def test_the_best_untrained_student_decides(r2, words):
    probe = StudentProbe(given(r2, seed=3), INITIAL, given(0.9), 300)
    _, *lines = describe_student(probe, 'accuracy').splitlines()
    assert lines[0].startswith('teacher at t = 300: accuracy 0.900')
    assert lines[1].startswith(f'distilled student: accuracy {r2:.3f}')
    assert lines[2].startswith('untrained student: accuracy 0.200')
    assert words in lines[3]
    assert f'(R² {r2 - 0.2:+.3f} ± ' in lines[3]


def test_a_student_that_predicts_nothing_is_not_called_better():
    initial = [given(-0.5, seed=1), given(-0.4, seed=2)]
    probe = StudentProbe(given(-0.01, seed=3), initial, given(0.9), 300)
    line = describe_student(probe, 'accuracy').splitlines()[-1]
    assert line.startswith(UNDECIDED)
    assert line.endswith('of it is no better than a constant.')
