"""Log short runs often enough."""

from __future__ import annotations

import math
from typing import Optional, Sequence

from mmengine.hooks import LoggerHook

from repfusion_mm.registry import HOOKS

#: Lines of a run, or all iterations if there are fewer.
MIN_LINES = 20


@HOOKS.register_module()
class ShortRunLoggerHook(LoggerHook):
    """Log at least 20 times in a run.

    In a run of fewer iterations than its interval, mmengine's ``LoggerHook``
    logs only at the end of each epoch, and nothing if the run is one of
    iterations. In a short run, this hook lowers the interval of the training
    to a divisor of ``interval``, and logs that it does so. Long runs,
    validations and tests are logged as by ``LoggerHook``.
    """

    interval: int
    #: The interval of the config.
    configured_interval: Optional[int] = None

    def before_train(self, runner) -> None:
        """Lower the interval."""
        self.configured_interval = self.interval
        # Counted within an epoch, of which iteration-based loops have one.
        length = runner.max_iters // runner.max_epochs
        num_lines = math.ceil(MIN_LINES / runner.max_epochs)
        # A shorter epoch than the interval has one line at its end.
        if max(1, length // self.interval) >= num_lines:
            return
        limit = max(1, length // num_lines)
        self.interval = max(
            i for i in range(1, limit + 1) if self.interval % i == 0
        )
        if self.interval < self.configured_interval:
            runner.logger.info(
                f'every {self.interval} instead of {self.configured_interval} '
                f'iterations are logged, as the run has {runner.max_iters}'
            )

    def after_val_iter(
        self,
        runner,
        batch_idx: int,
        data_batch: Optional[dict] = None,
        outputs: Optional[Sequence] = None,
    ) -> None:
        """Log a validation at the interval of the config."""
        interval = self.configured_interval or self.interval
        if self.every_n_inner_iters(batch_idx, interval):
            super().after_val_iter(runner, batch_idx, data_batch, outputs)

    def after_train(self, runner) -> None:
        """Use the interval of the config again."""
        self.interval = self.configured_interval or self.interval
