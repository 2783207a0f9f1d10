"""The confidence interval of a mean."""

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
