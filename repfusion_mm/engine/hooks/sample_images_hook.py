"""Show images of a generative model during its training."""

from __future__ import annotations

import math
from typing import Optional

import numpy as np
import torch
import torch.nn.functional as F

from repfusion_mm.engine.hooks.periodic_hook import PeriodicHook
from repfusion_mm.engine.utils import averaged_model, unwrap_model
from repfusion_mm.registry import HOOKS
from repfusion_mm.utils.arguments import check_integer


@HOOKS.register_module()
class SampleImagesHook(PeriodicHook):
    """Add a grid of sampled images to the visualizer.

    The noise is the same each time, so that grids can be compared. The last
    grid is drawn at the end of the run.

    Args:
        num_records: Largest number of grids in a run.
        min_interval: Smallest number of iterations between two grids; the one
            at the end of the run may follow sooner. A grid costs
            ``num_steps`` forward passes of ``num_images`` images.
        num_images: Number of images in a grid.
        num_steps: Number of denoising steps.
        seed: Seed of the noise, 0 or more.

    Raises:
        ValueError: An argument is outside its range.
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
        for name, value, low in (
            ('num_images', num_images, 1),
            ('num_steps', num_steps, 1),
            ('seed', seed, 0),
        ):
            check_integer(f'SampleImagesHook.{name}', value, low)
        self.num_images = num_images
        self.num_steps = num_steps
        self.seed = seed

    def record(self, runner, data_batch: Optional[dict]) -> None:
        """Sample from the EMA denoiser and show the grid."""
        runner.logger.info(f'drawing {self.num_images} samples')
        images = averaged_model(runner).sample(
            self.num_images, self.num_steps, self.seed
        )
        self.show(runner, 'samples', make_grid(images))


@HOOKS.register_module()
class ReconstructImagesHook(PeriodicHook):
    """Add training images and their reconstructions to the visualizer.

    In the picture, each image is followed by its reconstruction.

    Args:
        num_records: Largest number of pictures in a run.
        min_interval: Smallest number of iterations between two pictures; the
            one at the end of the run may follow sooner.
        num_images: Largest number of images in a picture.

    Raises:
        ValueError: An argument is not an integer of 1 or more.
    """

    def __init__(
        self,
        num_records: int = 5,
        min_interval: int = 100,
        num_images: int = 8,
    ) -> None:
        super().__init__(num_records, min_interval)
        check_integer('ReconstructImagesHook.num_images', num_images)
        self.num_images = num_images

    def record(self, runner, data_batch: Optional[dict]) -> None:
        """Reconstruct images of the batch with the EMA model."""
        if data_batch is None:
            return
        model = averaged_model(runner)
        data = unwrap_model(runner).data_preprocessor(data_batch)
        pairs = model.reconstruct(data['inputs'][: self.num_images])
        images = pairs.transpose(0, 1).flatten(0, 1)
        columns = 2 * math.ceil(math.sqrt(len(images)) / 2)  # whole pairs
        grid = make_grid(images, columns)
        self.show(runner, 'reconstructions', grid)


def make_grid(
    images: torch.Tensor, columns: Optional[int] = None, min_side: int = 64
) -> np.ndarray:
    """Arrange N x 3 x H x W images in [0, 1] in an H' x W' x 3 grid.

    Images with a side of less than ``min_side`` pixels are enlarged. By
    default, rows have about sqrt(N) images. The grid is uint8, and its empty
    cells are black.
    """
    columns = columns or math.ceil(math.sqrt(len(images)))
    num_empty = -len(images) % columns
    cells = F.pad(images, (0, 0, 0, 0, 0, 0, 0, num_empty)).split(columns)
    grid = torch.cat([torch.cat([*row], dim=2) for row in cells], dim=1)
    pixels = (grid * 255).round().to(torch.uint8).cpu().numpy()
    scale = max(1, math.ceil(min_side / min(images.shape[2:])))
    return pixels.transpose(1, 2, 0).repeat(scale, 0).repeat(scale, 1)
