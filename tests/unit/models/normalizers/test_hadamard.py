import numpy as np
import pytest

from repfusion_mm.models.normalizers.hadamard import find_orders, hadamard

#: Channels of layers of common teachers.
WIDTHS = [
    64, 96, 128, 192, 256, 320, 384, 448, 512, 640, 768, 960, 1024, 1152,
    1280, 1408, 1536, 1664, 1920, 2048, 2240, 2304, 2560, 3072, 3840, 4096,
    5120,
]  # fmt: skip


@pytest.mark.parametrize('size', [1, 2, 4, 12, 20, 28, 36, 140, 320, 1152])
def test_rows_are_orthogonal(size):
    matrix = hadamard(size).astype(np.float32)
    assert np.array_equal(np.abs(matrix), np.ones((size, size)))
    assert np.array_equal(matrix @ matrix.T, size * np.eye(size))


def test_common_widths_are_known():
    for width in WIDTHS:
        assert np.prod(find_orders(width)) == width


@pytest.mark.parametrize('size', [3, 6, 10, 50, 92])
def test_other_sizes_are_refused(size):
    assert find_orders(size) is None
    with pytest.raises(ValueError, match=f'got {size}'):
        hadamard(size)
