"""An independent reference of a probe: one fit for each image left out."""

import numpy as np
from sklearn.linear_model import Ridge


def refit(features, targets, penalty, counts=None):
    """Return N x R x Q predictions, each by a fit without its image.

    Args:
        features: N x R x D, standardized.
        targets: N x R x Q.
        penalty: Relative to D. The square of the constant feature is 100 D.
        counts: N x R booleans, which rows count. The others are 0.
    """
    if counts is None:
        counts = np.ones(features.shape[:2], dtype=bool)
    width = max(1, features.shape[-1])
    constant = np.full((*features.shape[:2], 1), np.sqrt(100 * width))
    rows = np.concatenate([features, constant], -1)
    # The rows of each image have a weight of one together.
    weights = np.repeat(1 / counts.sum(1), counts.sum(1))
    image = np.repeat(np.arange(len(rows)), counts.sum(1))
    predicted = np.zeros(targets.shape)
    for i in range(len(rows)):
        model = Ridge(alpha=penalty * width, fit_intercept=False)
        others = image != i
        model.fit(rows[counts][others], targets[counts][others],
                  sample_weight=weights[others])  # fmt: skip
        fitted = np.reshape(
            model.predict(rows[i, counts[i]]), (-1, targets.shape[-1])
        )
        predicted[i, counts[i]] = fitted
    return predicted


def scale(features):
    """Return features of mean 0 and variance 1; constant ones are 0."""
    spread = features.std(axis=(0, 1))
    return (features - features.mean(axis=(0, 1))) / np.where(
        spread == 0, np.inf, spread
    )
