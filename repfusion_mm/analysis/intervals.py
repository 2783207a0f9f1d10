"""Confidence intervals of a mean and of a difference of means."""

from typing import Sequence, Tuple, Union

import numpy as np


def confidence_interval(
    values: Union[Sequence[float], np.ndarray],
) -> Tuple[float, float]:
    """Return the mean and the half width of its 95% confidence interval.

    The interval is Student's t interval. The half width for a single value
    is NaN.
    """
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return mean, float('nan')
    from scipy.stats import t as student_t

    error = np.std(values, ddof=1) / np.sqrt(n)
    return mean, float(student_t.ppf(0.975, n - 1) * error)


def difference_interval(
    values: Sequence[float], others: Sequence[float]
) -> Tuple[float, float]:
    """Return the difference of two means and the half width of its interval.

    The interval is that of Welch's t test, at 95%. Each mean needs at least
    two values.
    """
    from scipy.stats import t as student_t

    difference = float(np.mean(values) - np.mean(others))
    squares = np.array([np.var(v, ddof=1) / len(v) for v in (values, others)])
    if not squares.any():
        return difference, 0.0
    freedom = np.array([len(values), len(others)]) - 1
    degrees = squares.sum() ** 2 / (squares**2 / freedom).sum()
    width = student_t.ppf(0.975, degrees) * squares.sum() ** 0.5
    return difference, float(width)
