import pytest

from repfusion_mm.analysis.flops import all_reduce_ms


def test_an_all_reduce_sends_the_gradients_almost_twice():
    # 2 x 7/8 of 1 GB over 200 GB/s; 2 x 63/64 over 25 GB/s.
    assert all_reduce_ms(1e9, 8, (200, 25)) == pytest.approx(8.75)
    assert all_reduce_ms(1e9, 64, (200, 25)) == pytest.approx(78.75)
