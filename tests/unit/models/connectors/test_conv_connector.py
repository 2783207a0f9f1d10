import torch
from hypothesis import given
from hypothesis import strategies as st

from repfusion_mm.models import ConvConnector
from repfusion_mm.models.connectors.conv_connector import resize_to
from tests.helpers.strategies import random_maps, sides

OURS = torch.randn(6, 5, 4, 4)


def test_connector_maps_channels_and_keeps_the_grid():
    connector = ConvConnector(5, 7, kernel_size=3)
    assert connector(OURS).shape == (6, 7, 4, 4)


def test_resize_returns_the_same_map_where_sizes_agree():
    assert resize_to(OURS, (4, 4)) is OURS
    assert resize_to(OURS, (2, 3)).shape == (6, 5, 2, 3)


@given(
    st.integers(1, 5), st.integers(1, 5), sides, sides, sides, sides,
    st.sampled_from([1, 3, 5]),
)  # fmt: skip
def test_connectors_and_resizing_return_the_teachers_shape(
    c_in, c_out, h, w, th, tw, kernel
):
    feat = ConvConnector(c_in, c_out, kernel)(random_maps(0, 2, c_in, h, w))
    assert feat.shape == (2, c_out, h, w)
    assert resize_to(feat, (th, tw)).shape == (2, c_out, th, tw)
    flat = torch.full((1, 1, h, w), 0.7)
    torch.testing.assert_close(
        resize_to(flat, (th, tw)), torch.full((1, 1, th, tw), 0.7)
    )
