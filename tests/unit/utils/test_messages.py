import pytest

from repfusion_mm.utils.messages import BYTES, PARAMETERS, scale


@pytest.mark.parametrize(
    ('value', 'units', 'text'),
    [
        (0, PARAMETERS, '0 parameters'),
        (999, PARAMETERS, '999 parameters'),
        (4_321, PARAMETERS, '4.3 thousand parameters'),
        (11_900_000_000, PARAMETERS, '11900.0 M parameters'),
        (171_000, BYTES, '171.0 kB'),
        (3_460_000_000, BYTES, '3.5 GB'),
    ],
)
def test_small_numbers_are_not_zero(value, units, text):
    assert scale(value, units) == text
