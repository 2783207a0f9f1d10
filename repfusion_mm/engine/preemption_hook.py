"""Save and leave when the cluster says that it takes the machine back."""

from __future__ import annotations

import os.path as osp
import signal
from types import FrameType
from typing import Optional

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook

from ..registry import HOOKS
from .checkpoint_hook import write_checkpoint

FILENAME = 'preempted.pth'
#: EX_TEMPFAIL of sysexits.h: try again later.
EXIT_STATUS = 75


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Write a checkpoint behind the current iteration on SIGTERM, and exit.

    The checkpoint is ``preempted.pth`` in the work directory, and the one that
    ``--resume`` goes on from. The exit status is 75, so that a job script can
    tell it from a failure. A second SIGTERM ends the process at once.

    Args:
        interval: How many iterations several processes go between two looks
            at whether one of them was told, for which they must wait for each
            other. A single process looks after each one.

    Raises:
        SystemExit: In ``after_train_iter``, with status 75.
        ValueError: ``interval`` is less than one.
    """

    # Behind all hooks, whose work belongs to the iteration.
    priority = 'LOWEST'

    def __init__(self, interval: int = 10) -> None:
        if interval < 1:
            raise ValueError(
                f'expected an interval of 1 or more, got {interval}'
            )
        self.interval = interval
        self._told = False

    def before_train(self, runner) -> None:
        """Listen to SIGTERM."""
        self._previous = signal.signal(signal.SIGTERM, self._hear)

    def after_train(self, runner) -> None:
        """Listen no more."""
        signal.signal(signal.SIGTERM, self._previous)

    def _hear(self, signum: int, frame: Optional[FrameType]) -> None:
        self._told = True
        signal.signal(signal.SIGTERM, self._previous)

    def after_train_iter(
        self,
        runner,
        batch_idx: int,
        data_batch: Optional[dict] = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Save and exit, if any process was told, behind a whole update."""
        done = runner.iter + 1
        wrapper = runner.optim_wrapper
        wrapper = getattr(wrapper, '_lead', wrapper)
        if done % getattr(wrapper, '_accumulative_counts', 1):
            return
        if not self._is_anyone_told(done):
            return
        path = osp.join(runner.work_dir, FILENAME)
        meta = dict(epoch=runner.epoch, iter=done)
        backend = dict(backend='repfusion_mm_atomic')
        write_checkpoint(
            runner, path, meta=meta, by_epoch=False, backend_args=backend
        )
        runner.logger.warning(
            f'Got SIGTERM: saved {path} after {done} of {runner.max_iters} '
            f'iterations; go on with --resume. Exit status {EXIT_STATUS}.'
        )
        raise SystemExit(EXIT_STATUS)

    def _is_anyone_told(self, done: int) -> bool:
        if get_world_size() == 1 or done % self.interval:
            return self._told and get_world_size() == 1
        told = torch.tensor(float(self._told))
        all_reduce(told, 'max')
        return bool(told)
