"""Make a resumed run identical to an uninterrupted one."""

from __future__ import annotations

from typing import Iterator, List, Optional, Tuple

import numpy as np
from mmengine.hooks import CheckpointHook, EarlyStoppingHook, Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, set_random_seed

from repfusion_mm.engine.checkpoint.io import find_loaded_path
from repfusion_mm.engine.optimizers import batches_per_update
from repfusion_mm.engine.resume.checks import (
    check_external_hashes,
    check_immutable_settings,
    check_resumable,
    external_hashes,
    immutable_settings,
    log_changed_settings,
    other_settings,
)
from repfusion_mm.engine.resume.seeding import (
    EndlessBatches,
    fast_forward,
    seed_batches,
)
from repfusion_mm.engine.resume.validation import SkippedValidationHook
from repfusion_mm.engine.utils import use_hooks_once
from repfusion_mm.registry import HOOKS


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Make all random numbers functions of seed, rank and iteration.

    mmengine restores no random states. With this hook there are none to
    restore: before each iteration the generators of Python, numpy and torch
    are seeded by the run's seed and the number of the iteration, and each
    batch is read with its own seed. So a resumed run draws the numbers of
    an uninterrupted one, after a validation or without, with any number of
    workers. Within an epoch it continues at the next batch. A validation that
    the interruption skipped is run first, and an ``EarlyStoppingHook`` of the
    same score continues to count. The batch sampler of ``train_dataloader`` is
    wrapped if it is not a ``SeededBatchSampler``.

    Raises:
        ValueError: Before the first iteration: the train_dataloader reads an
            ``IterableDataset``, or no batches; or checkpoints would be
            written between two batches of one update, whose gradients they do
            not hold. On resuming: the checkpoint is partial, such as without
            an optimizer; or it was written by a run of another length, on
            which schedules or a learned policy depend, or with other
            optimizers, schedules, batches, seed or number of processes; or
            the autoencoder of a ``DenoisingDiffusion``, or the teacher of a
            ``RepFusion``, has changed.
    """

    # Before any hook that draws random numbers.
    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._sampler_seed: Optional[int] = None
        self._position: Optional[dict] = None
        self._validated: Optional[int] = None

    def before_run(self, runner) -> None:
        """Use each hook once."""
        use_hooks_once(runner)

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Check that the run is the one that wrote the checkpoint."""
        if not runner._resume:
            return
        if not isinstance(runner.optim_wrapper, OptimWrapper):
            return  # a test, by a config with resume=True
        check_resumable(runner, checkpoint)
        check_immutable_settings(runner, checkpoint['meta'])
        check_external_hashes(runner, checkpoint['meta'])
        log_changed_settings(runner, checkpoint['meta'])
        self._sampler_seed = checkpoint['meta'].get('sampler_seed')
        self._position = checkpoint['meta'].get('train_position')
        stopping = checkpoint['meta'].get('early_stopping', ())
        for hook, state in zip(_stopping_hooks(runner), stopping):
            if (hook.monitor, hook.rule) == (state['monitor'], state['rule']):
                hook.wait_count = state['wait_count']
                hook.best_score = state['best_score']
        if not any(isinstance(i, SkippedValidationHook) for i in runner.hooks):
            validated = checkpoint['meta'].get('validated', False)
            runner.register_hook(SkippedValidationHook(validated))

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Write the settings, and the sampler's position and seed."""
        sampler = runner.train_dataloader.batch_sampler.sampler
        # It may be random.
        checkpoint['meta']['sampler_seed'] = getattr(sampler, 'seed', None)
        batches = getattr(runner.train_loop, 'dataloader_iterator', None)
        if isinstance(batches, EndlessBatches):
            checkpoint['meta']['train_position'] = dict(batches.position)
        # mmengine has not counted the iteration yet when it writes one.
        checkpoint['meta']['validated'] = (
            self._validated == checkpoint['meta']['iter']
        )
        checkpoint['meta']['early_stopping'] = [
            dict(
                monitor=hook.monitor,
                rule=hook.rule,
                wait_count=hook.wait_count,
                best_score=float(hook.best_score),
            )
            for hook in _stopping_hooks(runner)
        ]
        checkpoint['meta']['immutable_settings'] = immutable_settings(runner)
        checkpoint['meta']['other_settings'] = other_settings(runner)
        checkpoint['meta']['external_hashes'] = external_hashes(runner)

    def after_val_epoch(self, runner, metrics=None) -> None:
        """Remember that this iteration was validated."""
        self._validated = runner.iter

    def before_train(self, runner) -> None:
        """Seed the batches, and continue after the last one."""
        if runner.iter >= runner.max_iters:
            runner.logger.warning(
                f'nothing to train: the run of {runner.max_iters} iterations '
                f'had ended in {find_loaded_path(runner)}; to train longer, '
                'set train_cfg to a longer run; if its schedules or policy '
                'depend on the length, start a new run with '
                'load_from=CHECKPOINT, without --resume'
            )
        check_accumulation(runner)
        seed_batches(runner.train_loop, runner._train_dataloader, runner.seed)
        batches = runner.train_dataloader.batch_sampler
        if self._sampler_seed is not None and hasattr(batches.sampler, 'seed'):
            batches.sampler.seed = self._sampler_seed
        fast_forward(runner.train_loop, self._position)

    def before_train_epoch(self, runner) -> None:
        """Give the batches the number of the epoch."""
        runner.train_dataloader.batch_sampler.epoch = runner.epoch

    def before_train_iter(self, runner, *args, **kwargs) -> None:
        """Seed the random numbers of this iteration."""
        sequence = np.random.SeedSequence((runner.seed, runner.iter))
        set_random_seed(int(sequence.generate_state(1)[0]))


def _stopping_hooks(runner) -> List[EarlyStoppingHook]:
    return [h for h in runner.hooks if isinstance(h, EarlyStoppingHook)]


def check_accumulation(runner) -> None:
    """Refuse checkpoints that would lose accumulated gradients."""
    count = batches_per_update(runner.optim_wrapper)
    for name, batches in iter_checkpoints(runner):
        if batches % count:
            raise ValueError(
                'expected checkpoints after complete updates, got one after '
                f'{batches} batches ({name}) and updates of {count} batches, '
                'whose gradients are in no checkpoint; change '
                'default_hooks.checkpoint, train_cfg.val_interval or '
                'optim_wrapper.accumulative_counts'
            )


def iter_checkpoints(runner) -> Iterator[Tuple[str, int]]:
    """Iterate over the numbers of batches after which there are checkpoints.

    That at the end is left out: the last batch ends an update. Yields the
    setting with each number.
    """
    loop, epoch = runner.train_loop, len(runner.train_dataloader) or 1
    for hook in runner.hooks:
        if not isinstance(hook, CheckpointHook):
            continue
        if hook.interval > 0:
            unit = epoch if hook.by_epoch else 1
            first = hook.save_begin or hook.interval
            for step in range(
                first * unit, runner.max_iters, hook.interval * unit
            ):
                yield 'interval', step
        if hook.save_best and runner.val_loop is not None:
            by_epoch = isinstance(loop, EpochBasedTrainLoop)
            interval = loop.val_interval * (epoch if by_epoch else 1)
            for step in range(interval, runner.max_iters, interval):
                yield 'save_best', step
