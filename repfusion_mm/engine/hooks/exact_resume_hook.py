"""Let a run that was interrupted end as if it never had been."""

from __future__ import annotations

from typing import Optional

import numpy as np
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import set_random_seed

from repfusion_mm.engine.optimizers.joint_optim_wrapper import (
    batches_per_update,
)
from repfusion_mm.engine.resume.checks import check_resumable
from repfusion_mm.engine.resume.immutable_settings import (
    check_immutable_settings,
    immutable_settings,
)
from repfusion_mm.engine.resume.seeding import check_seeded, fast_forward
from repfusion_mm.engine.resume.validation import SkippedValidationHook
from repfusion_mm.registry import HOOKS


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Make all random numbers functions of seed, rank and iteration.

    mmengine restores no random states. Here there is nothing to restore:
    before each iteration the generators of Python, numpy and torch are seeded
    anew from the run's seed and the iteration's number, and before each batch
    is read, in whichever process, from the seed, the rank, the epoch and the
    batch's place in it. So a resumed run draws what it would have drawn, after
    a validation or without, with any number of workers; and the order of the
    images goes on within an epoch too, at the batch behind the checkpoint.
    A validation that was due at the checkpoint is made first.

    Raises:
        ValueError: The checkpoint is partial, as without an optimizer; or the
            run is of another length than the one that wrote it, whose
            schedules would go on unchanged; or it has other optimizers,
            schedules, batches or another seed; or checkpoints would be written
            between two batches of one update, whose gradients they do not
            hold.
    """

    # Before any hook that draws.
    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._sampler_seed = None

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Check that the run is the one that wrote the checkpoint."""
        if not runner._resume:
            return
        check_resumable(runner, checkpoint)
        info = checkpoint['message_hub']['runtime_info']
        written = info.get('max_iters', runner.max_iters)
        if written != runner.max_iters:
            raise ValueError(
                f'expected a run of {written} iterations, as the checkpoint '
                f'was written in, got {runner.max_iters}: its schedules would '
                'go on as before; resume with the same data, batch size, '
                'processes and length, or start a new run with '
                'load_from=CHECKPOINT'
            )
        check_immutable_settings(runner, checkpoint['meta'])
        self._sampler_seed = checkpoint['meta'].get('sampler_seed')
        runner.register_hook(SkippedValidationHook())

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Write the settings, and the sampler's seed, which may be drawn."""
        sampler = runner.train_dataloader.batch_sampler.sampler
        seed = getattr(sampler, 'seed', None)
        checkpoint['meta']['sampler_seed'] = seed
        checkpoint['meta']['immutable_settings'] = immutable_settings(runner)

    def before_train(self, runner) -> None:
        """Seed every batch, and go on behind the last one."""
        loop = runner.train_loop
        check_seeded(loop.dataloader)
        check_accumulation(runner)
        batch_sampler = loop.dataloader.batch_sampler
        batch_sampler.seed = runner.seed
        sampler = batch_sampler.sampler
        if self._sampler_seed is not None and hasattr(sampler, 'seed'):
            sampler.seed = self._sampler_seed
        fast_forward(loop)

    def before_train_iter(
        self, runner, batch_idx: int, data_batch: Optional[dict] = None
    ) -> None:
        """Seed the random numbers of this iteration."""
        key = np.random.SeedSequence((runner.seed, runner.iter))
        set_random_seed(int(key.generate_state(1)[0]))


def check_accumulation(runner) -> None:
    """Refuse checkpoints that would lose gradients.

    Raises:
        ValueError: An interval of checkpoints is no multiple of the batches
            that one update accumulates.
    """
    count = batches_per_update(runner.optim_wrapper)
    for hook in runner.hooks:
        if not isinstance(hook, CheckpointHook):
            continue
        interval = hook.interval
        if hook.by_epoch:
            interval *= len(runner.train_dataloader)
        if interval > 0 and interval % count:
            raise ValueError(
                'expected checkpoints after whole updates, got one every '
                f'{interval} batches and updates of {count} batches, whose '
                'gradients are in no checkpoint; change '
                'default_hooks.checkpoint.interval or '
                'optim_wrapper.accumulative_counts'
            )
