"""Run the validation that an interruption skipped."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop


class SkippedValidationHook(Hook):
    """Run the validation that was due at the checkpoint before training.

    mmengine writes a checkpoint before it validates, and resumes after both:
    if a run ends in between, its score and its best checkpoint are lost. The
    checkpoint does not tell whether that happened, so that the validation is
    always run, possibly a second time. ``ExactResumeHook`` registers this
    hook.
    """

    # After all hooks that prepare themselves in before_train.
    priority = 'LOWEST'

    def before_train(self, runner) -> None:
        """Validate if it was due."""
        if runner.val_loop and is_validation_due(runner.train_loop):
            runner.val_loop.run()


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
