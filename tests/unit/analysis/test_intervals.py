import numpy as np
import pytest
from scipy import stats

from repfusion_mm.analysis.intervals import (
    confidence_interval,
    difference_interval,
)


def test_the_interval_is_that_of_a_t_test():
    values = np.random.default_rng(0).normal(size=5)
    mean, half_width = confidence_interval(values)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (mean - half_width, mean + half_width) == pytest.approx((low, high))


def test_the_half_width_for_a_single_value_is_nan():
    mean, half_width = confidence_interval([0.5])
    assert mean == 0.5
    assert np.isnan(half_width)


def test_the_interval_of_a_difference_is_that_of_welchs_test():
    values, others = [1.0, 2.0, 4.0, 8.0], [0.0, 0.5]
    difference, half_width = difference_interval(values, others)
    assert difference == 3.5
    # The interval ends at 0 where the p-value is 5%.
    shifted = np.array(others) + difference - half_width
    p_value = stats.ttest_ind(values, shifted, equal_var=False).pvalue
    assert p_value == pytest.approx(0.05)
    assert difference_interval([2, 2], [1, 1]) == (1, 0)
