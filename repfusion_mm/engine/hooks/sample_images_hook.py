"""Show samples of a diffusion model during its training."""

from __future__ import annotations

import math
from typing import Optional

import numpy as np
import torch

from repfusion_mm.engine.hooks.periodic_hook import PeriodicHook
from repfusion_mm.engine.utils import averaged_model, show_image
from repfusion_mm.registry import HOOKS


@HOOKS.register_module()
class SampleImagesHook(PeriodicHook):
    """Add a grid of sampled images to the visualizer.

    The noise is the same each time, so that grids can be compared. In the
    config: ``default_hooks=dict(sample_images=dict(
    type='repfusion_mm.SampleImagesHook'))``.

    Args:
        num_records: Largest number of grids in a run. One is drawn at its
            end.
        min_interval: Smallest number of iterations between two grids. A grid
            costs ``num_steps`` forward passes of ``num_images`` images.
        num_images: Number of images in a grid.
        num_steps: Number of denoising steps.
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
        show_image(runner, 'samples', make_grid(images))


def make_grid(images: torch.Tensor, min_side: int = 64) -> np.ndarray:
    """Arrange images in a square grid, and enlarge small ones.

    Args:
        images: N x 3 x H x W in [0, 1].
        min_side: Smallest side of an image in the grid, in pixels.

    Returns:
        H' x W' x 3 uint8 array. Empty cells are black.
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
