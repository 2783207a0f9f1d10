"""Save and leave when the cluster says that it takes the machine back."""

from __future__ import annotations

import os
import os.path as osp
import signal
from functools import partial
from threading import Thread
from types import FrameType
from typing import Callable, Optional

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop

from repfusion_mm.engine.hooks.checkpoint_hook import ATOMIC, write_checkpoint
from repfusion_mm.engine.optimizers.joint_optim_wrapper import (
    batches_per_update,
)
from repfusion_mm.registry import HOOKS

FILENAME = 'preempted.pth'
#: EX_TEMPFAIL of sysexits.h: try again later.
EXIT_STATUS = 75


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Write a checkpoint behind the current iteration on SIGTERM, and exit.

    The checkpoint is ``preempted.pth`` in the work directory, and the one that
    ``--resume`` goes on from. The exit status is 75, so that a job script can
    tell it from a failure. Launchers send SIGTERM to all processes, and some
    of them twice: more of them change nothing, and the workers of the data
    loaders listen to the training process alone.

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
        self._preempted = False

    def before_run(self, runner) -> None:
        """Let workers outlive the signal, before any of them starts."""
        # runner.train_loop would build the one of a config under test.
        if not isinstance(runner._train_loop, BaseLoop):
            return
        loaders = [runner.train_dataloader]
        if runner.val_loop is not None:
            loaders.append(runner.val_dataloader)
        for loader in loaders:
            loader.worker_init_fn = partial(init_worker, loader.worker_init_fn)

    def before_train(self, runner) -> None:
        """Listen to SIGTERM."""
        self._previous = signal.signal(signal.SIGTERM, self._handle_sigterm)

    def after_train(self, runner) -> None:
        """Listen no more."""
        signal.signal(signal.SIGTERM, self._previous)

    def _handle_sigterm(self, signum: int, frame: Optional[FrameType]) -> None:
        self._preempted = True

    def after_train_iter(
        self,
        runner,
        batch_idx: int,
        data_batch: Optional[dict] = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Save and exit, if any process was told, behind a whole update."""
        done = runner.iter + 1
        if done % batches_per_update(runner.optim_wrapper):
            return
        if not self._any_rank_preempted(done):
            return
        path = osp.join(runner.work_dir, FILENAME)
        meta = dict(epoch=runner.epoch, iter=done)
        write_checkpoint(
            runner, path, meta=meta, by_epoch=False, backend_args=ATOMIC
        )
        runner.logger.warning(
            f'Got SIGTERM: saved {path} after {done} of {runner.max_iters} '
            f'iterations; go on with --resume. Exit status {EXIT_STATUS}.'
        )
        raise SystemExit(EXIT_STATUS)

    def _any_rank_preempted(self, done: int) -> bool:
        if get_world_size() == 1:
            return self._preempted
        if done % self.interval:
            return False
        told = torch.tensor(float(self._preempted))
        all_reduce(told, 'max')
        return bool(told)


def init_worker(init: Optional[Callable], worker_id: int) -> None:
    """Initialise a worker that obeys SIGTERM of its parent alone.

    A worker that dies of a cluster's signal, before the checkpoint is
    written, would take the training down with it. Where the system does not
    say who sent a signal (macOS), nothing is changed.

    Args:
        init: What initialised it before.
        worker_id: Its number.
    """
    if hasattr(signal, 'sigwaitinfo'):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        Thread(target=_obey_parent, daemon=True).start()
    if init is not None:
        init(worker_id)


def _obey_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)  # as torch's own handler does
