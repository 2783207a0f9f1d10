"""Sub-modules that several blocks of a denoiser share."""

import torch
from torch import nn

from repfusion_mm.models.teachers.features.layers import (
    find_used,
    release_unused,
    survey_layers,
)


class Blocks(nn.Module):
    """Blocks with one activation, as in diffusers before 0.33."""

    def __init__(self):
        super().__init__()
        shared = nn.SiLU()
        for name in ('first', 'second', 'third'):
            block = nn.Module()
            block.conv, block.act = nn.Conv2d(3, 3, 1), shared
            setattr(self, name, block)

    def forward(self, x):
        for block in (self.first, self.second):
            x = block.act(block.conv(x))
        return x


def test_a_shared_activation_is_kept_under_all_paths():
    blocks, x = Blocks(), torch.rand(1, 3, 4, 4)
    before = blocks(x)
    survey = survey_layers(blocks, lambda: blocks(x), lambda output: None)
    assert survey['first.act'].num_runs == survey['second.act'].num_runs == 2
    released = release_unused(blocks, find_used(['second.conv'], survey))
    assert released == sum(p.numel() for p in nn.Conv2d(3, 3, 1).parameters())
    assert torch.equal(blocks(x), before)
