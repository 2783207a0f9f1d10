"""Ridge regression whose predictions leave out one image at a time."""

from __future__ import annotations

from typing import Optional

import numpy as np

#: The square of the constant feature, relative to the number of features: the
#: intercept is shrunk by less than a thousandth for ten images or more.
INTERCEPT = 100.0
#: Features with a smaller standard deviation, relative to their mean, are
#: constant: the rest is rounding errors of float32.
TINY = 1e-6
#: Columns that :func:`compress` reads at a time.
MAX_COLUMNS = 4096


class LeaveOneOutRidge:
    """Predict the targets of each image by a fit to all other images.

    The predictions are those of N fits, each of which leaves out all rows of
    an image, but take a single one. With the hat matrix H, the residuals R of
    the complete fit and the rows b of an image, they are

        Y_b - (I - H_bb)^-1 R_b

    (block form of the leave-one-out residual, e.g. Cook and Weisberg,
    "Residuals and Influence in Regression", 1982, Sec. 3.6).

    Args:
        features: N x R x D, standardized, R rows for each of N images.
        counts: N x R booleans, which rows count; all by default. The others
            are neither fitted nor scored. Each image has one that counts.
        penalty: Penalty of the weights, relative to D, where the rows of each
            image have a weight of one together.
    """

    def __init__(
        self,
        features: np.ndarray,
        counts: Optional[np.ndarray] = None,
        penalty: float = 0.5,
    ) -> None:
        if counts is None:
            counts = np.ones(features.shape[:2], dtype=bool)
        width = max(1, features.shape[-1])
        self._constant = np.sqrt(INTERCEPT * width)
        self._weights = np.sqrt(counts / counts.sum(1, keepdims=True))
        rows = self._extend(features)
        self._rows = rows * self._weights[..., None]
        flat = self._rows.reshape(-1, rows.shape[-1])
        matrix = flat.T @ flat + penalty * width * np.eye(flat.shape[1])
        self._solved = np.linalg.solve(matrix, flat.T)  # (X'X + cI)^-1 X'
        solved = self._solved.reshape(-1, *counts.shape)
        hat = self._rows @ solved.transpose(1, 0, 2)
        self._inverse = np.linalg.inv(np.eye(counts.shape[1]) - hat)

    def _extend(self, features: np.ndarray) -> np.ndarray:
        """Append the constant feature."""
        constant = np.full((*features.shape[:-1], 1), self._constant)
        return np.concatenate([features, constant], -1, dtype=np.float64)

    def _fit(self, targets: np.ndarray) -> np.ndarray:
        """Return the (D + 1) x Q weights of the fit to all images.

        Args:
            targets: N x R x Q.
        """
        weighted = targets * self._weights[..., None]
        return self._solved @ weighted.reshape(-1, targets.shape[-1])

    def predict(self, targets: np.ndarray) -> np.ndarray:
        """Return N x R x Q predictions without the image; 0 if not counted.

        Args:
            targets: N x R x Q.
        """
        weighted = targets * self._weights[..., None]
        residuals = weighted - self._rows @ self._fit(targets)
        predicted = weighted - self._inverse @ residuals
        counts = self._weights[..., None] > 0
        return np.divide(
            predicted, self._weights[..., None],
            out=np.zeros_like(predicted), where=counts,
        )  # fmt: skip

    def predict_others(
        self, features: np.ndarray, targets: np.ndarray
    ) -> np.ndarray:
        """Predict ... x Q of other images by the fit to all N images.

        Args:
            features: ... x D features, scaled as the others.
            targets: N x R x Q targets of the N images.
        """
        return self._extend(features) @ self._fit(targets)


def standardize(
    features: np.ndarray, counts: Optional[np.ndarray] = None
) -> np.ndarray:
    """Return features of mean 0 and variance 1; constant ones become 0.

    Args:
        features: N x R x D.
        counts: N x R booleans, which rows the statistics are of.
    """
    rows = features.reshape(-1, features.shape[-1])
    if counts is not None:
        rows = rows[counts.ravel()]
    mean = rows.mean(0, dtype=np.float64)
    std = rows.std(0, dtype=np.float64)
    is_constant = std <= TINY * np.abs(mean)
    return (features - mean) / np.where(is_constant, np.inf, std)


def compress(features: np.ndarray) -> np.ndarray:
    """Standardize N x D features, and rotate them to N x N if D > N.

    The result is scaled to a mean square of one again, so that a
    :class:`LeaveOneOutRidge` fitted to it makes the same predictions.
    """
    num_images, width = features.shape
    if width <= num_images:
        return standardize(features[:, None])[:, 0]
    products = np.zeros((num_images, num_images))
    for begin in range(0, width, MAX_COLUMNS):  # bounds the memory
        part = features[:, None, begin : begin + MAX_COLUMNS]
        part = standardize(part)[:, 0]
        products += part @ part.T
    values, vectors = np.linalg.eigh(products * (num_images / width))
    return vectors * np.sqrt(np.clip(values, 0, None))
