"""How sure a mean is."""

from typing import Sequence, Tuple

import numpy as np
from scipy.stats import t as student_t


def interval(values: Sequence[float]) -> Tuple[float, float]:
    """Return the mean and the half width of its 95% interval (Student's t).

    The half width of one value is not known: NaN.
    """
    n = len(values)
    if n < 2:
        return float(np.mean(values)), float('nan')
    error = np.std(values, ddof=1) / np.sqrt(n)
    return float(np.mean(values)), float(student_t.ppf(0.975, n - 1) * error)
