import pytest

from repfusion_mm.models.distillers.verdict import judge_student


@pytest.mark.parametrize(
    ('share', 'learned', 'words'),
    [
        (0.434, True, 'the student explains 43% of the variance'),
        (0.05, True, 'explains 5%'),
        (0.04, False, 'learned next to nothing: the student explains 4%'),
        (-0.3, False, 'explains 0%'),
    ],
)
def test_a_student_that_explains_little_has_not_learned(share, learned, words):
    verdict = judge_student([{}, dict(explained_variance=share)])
    assert verdict.learned == learned
    assert words in verdict.text


def test_a_run_without_a_squared_error_is_not_judged():
    assert judge_student([dict(explained_variance=0.5), {}]) is None
