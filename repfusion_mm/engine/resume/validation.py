"""Run the validation that an interruption skipped."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop


class SkippedValidationHook(Hook):
    """Run the validation that was due at the checkpoint before training.

    mmengine writes a checkpoint before it validates, and resumes after both:
    if a run ends in between, its score and its best checkpoint are lost. So
    the validation is always run, possibly a second time. ``ExactResumeHook``
    registers this hook.

    Args:
        has_stepped: Whether schedules that depend on a score, such as
            ``ReduceOnPlateauLR``, have made the step of this validation: with
            ``save_best``, mmengine writes the checkpoint again after it.
    """

    # After all hooks that prepare themselves in before_train.
    priority = 'LOWEST'

    def __init__(self, has_stepped: bool = False) -> None:
        self.has_stepped = has_stepped

    def before_train(self, runner) -> None:
        """Validate if it was due."""
        if not (runner.val_loop and is_validation_due(runner.train_loop)):
            return
        schedules = runner.param_schedulers
        if self.has_stepped:
            runner.param_schedulers = None
        runner.val_loop.run()
        runner.param_schedulers = schedules


def is_validation_due(loop: BaseLoop) -> bool:
    """Return whether mmengine's loop would have validated at this point."""
    if isinstance(loop, EpochBasedTrainLoop):
        position, end = loop.epoch, loop.max_epochs
        if loop.iter != position * len(loop.dataloader):
            return False  # within an epoch
    elif isinstance(loop, IterBasedTrainLoop):
        position, end = loop.iter, loop.max_iters
    else:
        return False
    loop._decide_current_val_interval()
    return position >= max(loop.val_begin, 1) and (
        position % loop.val_interval == 0 or position == end
    )
