"""Stop where a loss is no number any more."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import numpy as np
from mmengine.hooks import Hook

from ..registry import HOOKS


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stop a run whose losses are not finite, before it is saved.

    The losses of past iterations are looked at together, so that the step
    need not wait for the device: every ``interval`` iterations, and before
    each checkpoint.

    Args:
        interval: How many iterations pass between two looks.

    Raises:
        ValueError: ``interval`` is less than one.
        FloatingPointError: A loss was not finite. It says which one, in which
            iteration, and which checkpoint is the last good one.
    """

    # Behind RuntimeInfoHook, which writes the losses down.
    priority = 'BELOW_NORMAL'

    def __init__(self, interval: int = 50) -> None:
        if interval < 1:
            raise ValueError(
                f'expected an interval of 1 or more, got {interval}'
            )
        self.interval = interval

    def before_train(self, runner) -> None:
        """Begin behind what was looked at in a run before."""
        self._looked_at = self._done = runner.iter

    def after_train_iter(
        self,
        runner,
        batch_idx: int,
        data_batch: Optional[dict] = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Look now and then."""
        self._done = runner.iter + 1
        if self._done % self.interval == 0:
            self.look(runner)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Look before the weights are written."""
        self.look(runner)

    def look(self, runner) -> None:
        """Check the losses of the iterations since the last look."""
        done = self._done
        num_new = done - self._looked_at
        self._looked_at = done
        if num_new <= 0:
            return
        found = {}
        for name, values in _losses(runner).items():
            new = values[-num_new:]
            bad = np.flatnonzero(~np.isfinite(new))
            if len(bad):
                found[name[len('train/') :]] = done - len(new) + bad[0] + 1
        if not found:
            return
        first = min(found.values())
        names = [name for name, place in found.items() if place == first]
        parts = [name for name in names if name != 'loss'] or names
        pointer = Path(runner.work_dir, 'last_checkpoint')
        last = pointer.read_text() if pointer.exists() else 'none'
        raise FloatingPointError(
            f'expected finite losses, got {", ".join(parts)} not finite in '
            f'iteration {first} of {runner.max_iters}; the last good '
            f'checkpoint is {last}; lower the learning rate, or clip '
            'gradients (optim_wrapper.student.clip_grad), and go on with '
            '--resume'
        )


def _losses(runner) -> dict:
    """Return the values of every loss, newest last."""
    scalars = runner.message_hub.log_scalars
    return {
        name: history.data[0]
        for name, history in scalars.items()
        if name.startswith('train/') and 'loss' in name
    }
