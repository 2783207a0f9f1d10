"""Record something a few times during a run."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Optional

import numpy as np
from mmengine.hooks import Hook

from repfusion_mm.utils.arguments import check_integer


class PeriodicHook(Hook, ABC):
    """Call ``record`` at regular intervals and at the end of the run.

    It is called on the main process, or, if ``on_all_ranks``, on all.

    Args:
        num_records: Largest number of records in a run of any length.
        min_interval: Smallest number of iterations between two records; the
            one at the end of the run may follow sooner.

    Raises:
        ValueError: An argument is not an integer of 1 or more.
    """

    on_all_ranks = False

    def __init__(self, num_records: int, min_interval: int = 1) -> None:
        name = type(self).__name__
        check_integer(f'{name}.num_records', num_records)
        check_integer(f'{name}.min_interval', min_interval)
        self.num_records = num_records
        self.min_interval = min_interval

    @abstractmethod
    def record(self, runner, data_batch: Optional[dict]) -> None:
        """Record something."""

    def show(self, runner, name: str, picture: np.ndarray) -> None:
        """Add a picture to all backends of the visualizer.

        A backend that refuses it, as mmengine's ``MLflowVisBackend`` refuses
        names without an extension, does not stop the run.
        """
        for key, backend in runner.visualizer._vis_backends.items():
            try:
                backend.add_image(name, picture, runner.iter + 1)
            except Exception as error:
                runner.logger.warning(
                    f'the picture {name!r} is not in {key}, which refused '
                    f'it: {error!r}; add a LocalVisBackend to '
                    'visualizer.vis_backends to save it'
                )

    def after_train_iter(
        self,
        runner,
        batch_idx: int,
        data_batch: Optional[dict] = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Record every ``max_iters / num_records`` iterations."""
        interval = math.ceil(runner.max_iters / self.num_records)
        interval = max(interval, self.min_interval)
        num_done = runner.iter + 1
        is_due = num_done % interval == 0 or num_done == runner.max_iters
        if is_due and (self.on_all_ranks or runner.rank == 0):
            self.record(runner, data_batch)
