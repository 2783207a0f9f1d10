"""Read a map from whatever a layer outputs."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional, Sequence, Tuple

import torch

Grid = Tuple[int, int]


class MapReader(NamedTuple):
    """Read an N x C x h x w map from the output of a layer.

    Layers of U-Nets output maps, or tuples with a map; transformers output
    N x L x C tokens of the image, of the text, or of both in one sequence, or
    tuples of these.
    """

    #: The element of a tuple that holds the image; None for a tensor.
    element: Optional[int]
    #: The grid of the image's tokens; None for a map.
    grid: Optional[Grid]
    #: Number of text tokens before those of the image.
    skip: int = 0

    def for_text(self, num_text: int) -> MapReader:
        """Return the reader for another number of text tokens."""
        return self._replace(skip=num_text if self.skip else 0)

    def __call__(self, output: Any) -> torch.Tensor:
        """Return the map of an output."""
        if self.element is not None:
            output = output[self.element]
        if self.grid is None:
            return output
        height, width = self.grid
        tokens = output[:, self.skip : self.skip + height * width]
        return tokens.transpose(1, 2).unflatten(2, (height, width))


def find_map(
    output: Any,
    grids: Sequence[Grid],
    num_text: int,
    text_first: bool,
) -> Optional[MapReader]:
    """Find the map in the output of a layer, or return None.

    Args:
        output: What the layer outputs for one image.
        grids: Grids that tokens of the image may have.
        num_text: Number of text tokens, which differs from the number of
            positions of every grid, so that shapes tell them apart.
        text_first: Whether text precedes the image in a common sequence.
    """
    if isinstance(output, (tuple, list)):
        for index, element in enumerate(output):
            found = find_map(element, grids, num_text, text_first)
            if found and found.element is None:
                return found._replace(element=index)
        return None
    if not torch.is_tensor(output):
        return None
    if output.dim() == 4 and tuple(output.shape[2:]) in grids:
        return MapReader(None, None)
    if output.dim() != 3:
        return None
    for grid in grids:
        positions = grid[0] * grid[1]
        if output.shape[1] == positions:
            return MapReader(None, grid)
        if num_text and output.shape[1] == positions + num_text:
            return MapReader(None, grid, num_text if text_first else 0)
    return None
