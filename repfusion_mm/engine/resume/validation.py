"""Validate where a run was interrupted before it could."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop


class SkippedValidationHook(Hook):
    """Make up for the validation that was due at the checkpoint.

    mmengine writes a checkpoint before it validates, and goes on behind both:
    a run that ended in between would never learn that score, nor that it was
    the best. The checkpoint does not tell which it was, so it is validated in
    any case, a second time if need be.
    """

    # Behind all hooks that get ready in before_train.
    priority = 'LOWEST'

    def before_train(self, runner) -> None:
        """Validate if it was due."""
        if runner.val_loop is not None and is_due(runner.train_loop):
            runner.val_loop.run()


def is_due(loop) -> bool:
    """Say whether a loop of mmengine would have validated before it is here.

    Args:
        loop: A loop that was resumed and has not begun. Loops other than
            mmengine's own are never due.
    """
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
