"""Hadamard matrices of the sizes that feature maps have."""

from __future__ import annotations

from functools import lru_cache
from typing import Optional, Tuple

import numpy as np


def hadamard(size: int) -> np.ndarray:
    """Return a ``size`` x ``size`` matrix of orthogonal rows of 1 and -1.

    It is the Kronecker product of matrices of order 2 (Sylvester, 1867) and
    of orders q + 1 and 2 (q + 1) for primes q (Paley, 1933).

    Raises:
        ValueError: This gives no matrix of the size, as for any size above 2
            that is not a multiple of 4.
    """
    orders = find_orders(size)
    if orders is None:
        raise ValueError(
            'expected a size of which a Hadamard matrix is known, got '
            f'{size}; give a product of 2, 12, 20, 28, 36, 44 and the like'
        )
    matrix = np.ones((1, 1), np.int8)
    for order in orders:
        matrix = np.kron(matrix, _paley(order))
    return matrix


@lru_cache(maxsize=None)
def find_orders(size: int) -> Optional[Tuple[int, ...]]:
    """Return orders whose product is ``size``, or None."""
    if size == 1:
        return ()
    for order in range(2, size + 1):
        if size % order or not _is_paley(order):
            continue
        rest = find_orders(size // order)
        if rest is not None:
            return (order, *rest)
    return None


def _is_paley(order: int) -> bool:
    return order == 2 or (
        order % 4 == 0
        and (
            _is_prime(order - 1)
            or (order // 2 % 4 == 2 and _is_prime(order // 2 - 1))
        )
    )


def _paley(order: int) -> np.ndarray:
    if order == 2:
        return np.array([[1, 1], [1, -1]], np.int8)
    if _is_prime(order - 1):  # q % 4 = 3: the conference matrix is skew
        matrix = _conference(order - 1)
        matrix[1:, 0] = -1
        return matrix + np.eye(order, dtype=np.int8)
    matrix = _conference(order // 2 - 1)  # q % 4 = 1: it is symmetric
    twos = np.array([[1, 1], [1, -1]], np.int8)
    diagonal = np.array([[1, -1], [-1, -1]], np.int8)
    eye = np.eye(order // 2, dtype=np.int8)
    return np.kron(matrix, twos) + np.kron(eye, diagonal)


def _conference(prime: int) -> np.ndarray:
    """Return the conference matrix, without the sign of its first column."""
    symbols = np.full(prime, -1, np.int8)
    symbols[np.arange(1, prime, dtype=np.int64) ** 2 % prime] = 1
    symbols[0] = 0
    index = np.arange(prime)
    matrix = np.ones((prime + 1, prime + 1), np.int8)
    matrix[0, 0] = 0
    matrix[1:, 1:] = symbols[(index[:, None] - index) % prime]
    return matrix


def _is_prime(value: int) -> bool:
    return value > 1 and all(value % i for i in range(2, int(value**0.5) + 1))
