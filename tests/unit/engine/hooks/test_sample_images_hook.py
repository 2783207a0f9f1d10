from pathlib import Path

import cv2
import torch
from mmengine.runner import Runner

from repfusion_mm.engine.hooks.sample_images_hook import make_grid
from tests.helpers.memory_run import teacher_config


def test_samples_are_added_to_the_visualizer(tmp_path):
    hook = dict(
        type='repfusion_mm.SampleImagesHook',
        num_records=2,
        min_interval=1,
        num_images=5,
        num_steps=2,
    )
    runner = Runner.from_cfg(teacher_config(tmp_path, [hook]))
    runner.train()
    pictures = sorted(Path(runner.log_dir).rglob('samples_*.png'))
    assert [p.stem for p in pictures] == ['samples_1', 'samples_2']
    image = cv2.imread(str(pictures[0]))
    assert image.shape == (128, 192, 3)
    assert image[64:, 128:].max() == 0  # the sixth cell is empty


def test_a_grid_keeps_the_order_of_images():
    images = torch.arange(3).view(3, 1, 1, 1).expand(3, 3, 2, 2) / 2
    grid = make_grid(images, min_side=2)
    assert grid.shape == (4, 4, 3)
    assert grid[0, 0, 0] == 0
    assert grid[0, 2, 0] == 128
    assert grid[2, 0, 0] == 255
    assert make_grid(images, columns=1, min_side=2).shape == (6, 2, 3)
