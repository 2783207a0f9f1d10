"""Write a checkpoint and exit when the cluster preempts the run (SIGTERM)."""

from __future__ import annotations

import os
import os.path as osp
import signal
from functools import partial
from threading import Thread
from types import FrameType
from typing import Callable, Optional

import torch
from mmengine.dist import all_reduce, barrier, get_world_size
from mmengine.hooks import Hook

from repfusion_mm.engine.hooks.checkpoint_hook import ATOMIC, write_checkpoint
from repfusion_mm.engine.optimizers import batches_per_update
from repfusion_mm.engine.utils import (
    check_single,
    use_hooks_once,
)
from repfusion_mm.registry import HOOKS
from repfusion_mm.utils.arguments import check_integer

FILENAME = 'preempted.pth'
#: EX_TEMPFAIL of sysexits.h: try again later.
EXIT_STATUS = 75


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Write a checkpoint after the current iteration on SIGTERM, and exit.

    The checkpoint is ``preempted.pth`` in the work directory, from which
    ``--resume`` continues. The exit status is 75, so that a job script can
    distinguish it from a failure. Launchers send SIGTERM to all processes,
    some of them twice: repeated signals change nothing, and the workers of
    data loaders only react to the signal if the training process sent it.

    Args:
        interval: With several processes: number of iterations between two
            checks whether one of them got the signal, for which they
            synchronize; with gradient accumulation, as many whole updates,
            but at least one. A single process checks after each update.

    Raises:
        SystemExit: In ``after_train_iter``, with status 75.
        ValueError: ``interval`` is less than one. Before training: there is a
            second ``PreemptionHook``.
    """

    # After all hooks whose work belongs to the iteration.
    priority = 'LOWEST'

    def __init__(self, interval: int = 10) -> None:
        check_integer('default_hooks.preemption.interval', interval)
        self.interval = interval
        self._preempted = False

    def before_run(self, runner) -> None:
        """Use each hook once."""
        use_hooks_once(runner)

    def before_train(self, runner) -> None:
        """Handle SIGTERM here, and let workers that start later ignore it."""
        check_single(runner, PreemptionHook)
        loaders = [runner.train_dataloader]
        if runner.val_loop is not None:
            loaders.append(runner.val_dataloader)
        for loader in loaders:
            loader.worker_init_fn = partial(
                init_worker, loader.worker_init_fn, os.getpid()
            )
        self._previous = signal.signal(signal.SIGTERM, self._handle_sigterm)

    def after_train(self, runner) -> None:
        """Restore the previous handler of SIGTERM."""
        signal.signal(signal.SIGTERM, self._previous)

    def _handle_sigterm(self, signum: int, frame: Optional[FrameType]) -> None:
        self._preempted = True

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        """Save and exit after an update, if any process was preempted."""
        num_done = runner.iter + 1
        num_updates, rest = divmod(
            num_done, batches_per_update(runner.optim_wrapper)
        )
        if rest or not self._any_rank_preempted(num_done, num_updates):
            return
        path = osp.join(runner.work_dir, FILENAME)
        meta = dict(epoch=runner.epoch, iter=num_done)
        write_checkpoint(
            runner, path, meta=meta, by_epoch=False, backend_args=ATOMIC
        )
        # A launcher ends all processes when the first one exits.
        barrier()
        runner.logger.warning(
            f'Got SIGTERM: saved {path} after {num_done} of '
            f'{runner.max_iters} iterations; continue with --resume. Exit '
            f'status {EXIT_STATUS}.'
        )
        raise SystemExit(EXIT_STATUS)

    def _any_rank_preempted(self, num_done: int, num_updates: int) -> bool:
        if get_world_size() == 1:
            return self._preempted
        batches = num_done // num_updates
        if num_updates % max(1, self.interval // batches):
            return False
        preempted = torch.tensor(float(self._preempted))
        all_reduce(preempted, 'max')
        return bool(preempted)


def init_worker(
    init: Optional[Callable], trainer: int, worker_id: int
) -> None:
    """Initialize a worker that reacts to SIGTERM of the training only.

    A worker that a launcher's signal ends would end the training before the
    checkpoint is written. Nothing is changed on systems that do not tell who
    sent a signal (macOS).

    Args:
        init: The ``worker_init_fn`` of the dataloader.
        trainer: Process id of the training. The parent of a worker may be
            another one (``mp_start_method='forkserver'``).
        worker_id: Number of the worker.
    """
    if hasattr(signal, 'sigwaitinfo'):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        Thread(target=_exit_on_signal, args=(trainer,), daemon=True).start()
    if init is not None:
        init(worker_id)


def _exit_on_signal(sender: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != sender:
        pass
    os._exit(0)  # as torch's own handler does
