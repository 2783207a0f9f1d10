"""How the map of an image is read from the output of a layer."""

import pytest
import torch

from repfusion_mm.models.teachers.features.token_maps import find_map

GRID = (2, 3)
NUM_TEXT = 5
MAP = torch.arange(4.0 * 6).view(1, 4, *GRID)
IMAGE = MAP.flatten(2).transpose(1, 2)
TEXT = torch.full((1, NUM_TEXT, 4), -1.0)


@pytest.mark.parametrize('text_first', [True, False])
def test_the_image_is_read_from_a_stream_with_text(text_first):
    parts = [TEXT, IMAGE] if text_first else [IMAGE, TEXT]
    stream = torch.cat(parts, dim=1)
    reader = find_map(stream, [GRID], NUM_TEXT, text_first)
    torch.testing.assert_close(reader(stream), MAP, rtol=0, atol=0)


@pytest.mark.parametrize(
    'output',
    [MAP, IMAGE, (TEXT, IMAGE), [IMAGE, TEXT]],
    ids=['map', 'tokens', 'text and image', 'image and text'],
)
def test_the_image_is_read_from_an_output_of_its_own(output):
    reader = find_map(output, [(4, 6), GRID], NUM_TEXT, True)
    torch.testing.assert_close(reader(output), MAP, rtol=0, atol=0)


@pytest.mark.parametrize(
    'output',
    [TEXT, MAP[0], MAP.flatten(1), (TEXT, None), None, MAP.mT],
    ids=['text', '3 dimensions', '2', 'no tensor', 'None', 'another grid'],
)
def test_other_outputs_have_no_map(output):
    assert find_map(output, [GRID], NUM_TEXT, True) is None
