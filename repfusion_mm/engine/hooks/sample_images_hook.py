"""Show what a diffusion model in training draws."""

from __future__ import annotations

import math
from typing import Optional

import numpy as np
import torch

from repfusion_mm.engine.hooks.periodic_hook import (
    PeriodicHook,
    averaged_model,
    show,
)
from repfusion_mm.registry import HOOKS


@HOOKS.register_module()
class SampleImagesHook(PeriodicHook):
    """Draw a grid of sampled images through the visualizer.

    The same noise is used each time, so that grids can be compared.

    Args:
        num_records: How often at most over the run, and at its end.
        min_interval: Least number of iterations between two grids. Drawing
            one costs ``num_steps`` forward passes of ``num_images`` images.
        num_images: Images in the grid.
        num_steps: Denoising steps for each.
        seed: Seed of the noise.
    """

    def __init__(
        self,
        num_records: int = 5,
        min_interval: int = 100,
        num_images: int = 16,
        num_steps: int = 50,
        seed: int = 0,
    ) -> None:
        super().__init__(num_records, min_interval)
        self.num_images = num_images
        self.num_steps = num_steps
        self.seed = seed

    def record(self, runner, data_batch: Optional[dict]) -> None:
        """Sample from the averaged denoiser and show the grid."""
        runner.logger.info(f'drawing {self.num_images} samples')
        images = averaged_model(runner).sample(
            self.num_images, self.num_steps, self.seed
        )
        show(runner, 'samples', make_grid(images))


def make_grid(images: torch.Tensor, min_side: int = 64) -> np.ndarray:
    """Lay images out in a square grid, small ones enlarged.

    Args:
        images: N x 3 x H x W in [0, 1].
        min_side: Least side of an image in the grid, in pixels.

    Returns:
        Rows x columns images, as one H' x W' x 3 uint8 array; empty places
        are black.
    """
    count, channels, height, width = images.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    grid = images.new_zeros(rows * columns, channels, height, width)
    grid[:count] = images
    grid = grid.reshape(rows, columns, channels, height, width)
    grid = grid.permute(0, 3, 1, 4, 2).reshape(
        rows * height, columns * width, channels
    )
    pixels = (grid * 255).round().to(torch.uint8).cpu().numpy()
    scale = max(1, math.ceil(min_side / min(height, width)))
    return pixels.repeat(scale, axis=0).repeat(scale, axis=1)
