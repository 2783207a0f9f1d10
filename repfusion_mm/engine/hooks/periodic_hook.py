"""Hooks that record something a few times over a run."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Optional

import numpy as np
import torch.nn as nn
from mmengine.hooks import EMAHook, Hook
from mmengine.model import is_model_wrapper


class PeriodicHook(Hook, ABC):
    """Call ``record`` at equal distances over the run, and at its end.

    Args:
        num_records: How often at most, whatever the length of the run.
        min_interval: Least number of iterations between two records.

    Raises:
        ValueError: ``num_records`` is less than one.
    """

    def __init__(self, num_records: int, min_interval: int = 1) -> None:
        if num_records < 1:
            raise ValueError(
                f'expected num_records of 1 or more, got {num_records}; '
                'leave the hook out to record nothing'
            )
        self.num_records = num_records
        self.min_interval = min_interval

    @abstractmethod
    def record(self, runner, data_batch: Optional[dict]) -> None:
        """Record something, on the main process."""

    def after_train_iter(
        self,
        runner,
        batch_idx: int,
        data_batch: Optional[dict] = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Record when a share of the run has passed."""
        share = math.ceil(runner.max_iters / self.num_records)
        interval = max(share, self.min_interval)
        done = runner.iter + 1
        due = done % interval == 0 or done == runner.max_iters
        if due and runner.rank == 0:
            self.record(runner, data_batch)


def unwrap_model(runner) -> nn.Module:
    """Return the runner's model without its distributed wrapper."""
    model = runner.model
    return model.module if is_model_wrapper(model) else model


def averaged_model(runner) -> nn.Module:
    """Return the averaged model where the run keeps one, else the model."""
    for hook in runner.hooks:
        if isinstance(hook, EMAHook):
            return hook.ema_model.module
    return unwrap_model(runner)


def show(runner, name: str, image: np.ndarray) -> None:
    """Hand an H x W x 3 uint8 RGB image to the runner's visualizer."""
    runner.visualizer.add_image(name, image, step=runner.iter + 1)
