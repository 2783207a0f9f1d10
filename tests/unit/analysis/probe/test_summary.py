import pytest

from repfusion_mm.analysis.probe.scores import Score
from repfusion_mm.analysis.probe.summary import (
    find_good_range,
    recommend,
    standard_error,
)


def curve(*means, error=0.02):
    return {100 * i: (mean, error) for i, mean in enumerate(means)}


def test_the_good_range_is_within_a_standard_error_of_the_best():
    assert find_good_range(curve(0.5, 0.79, 0.8, 0.785, 0.7, 0.79)) == (
        200, 100, 300,
    )  # fmt: skip
    assert find_good_range(curve(0.9)) == (0, 0, 0)
    assert standard_error([1.0, 3.0]) == pytest.approx(1.0)
    assert standard_error([1.0]) == 0


def test_the_recommendation_can_be_pasted_into_a_config():
    scores = [
        Score(mode, layer, t, 50, i, base + 0.01 * i - abs(t - 300) / 1e4)
        for mode, layer, base in (
            ('clean', 'mid', 0.8),
            ('noised', 'mid', 0.6),
            ('clean', 'low', 0.7),
        )
        for t in (0, 300, 999)
        for i in range(3)
    ]
    text = recommend(scores, 'accuracy')
    assert 'at t = 300, layer mid, clean input' in text
    policy = eval(text.splitlines()[1].strip().replace('policy=', '', 1))
    assert policy['low'] == policy['high'] == 300
