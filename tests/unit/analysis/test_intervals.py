import numpy as np
import pytest
from scipy import stats

from repfusion_mm.analysis.intervals import confidence_interval


def test_the_interval_is_that_of_a_t_test():
    values = np.random.default_rng(0).normal(size=5)
    mean, half_width = confidence_interval(values)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (mean - half_width, mean + half_width) == pytest.approx((low, high))


def test_the_half_width_for_a_single_value_is_nan():
    mean, half_width = confidence_interval([0.5])
    assert mean == 0.5
    assert np.isnan(half_width)
