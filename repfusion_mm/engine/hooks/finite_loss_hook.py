"""Stop where a loss, or a weight, is no number any more."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Optional

import numpy as np
import torch
from mmengine.hooks import Hook

from repfusion_mm.engine.hooks.periodic_hook import unwrap_model
from repfusion_mm.registry import HOOKS


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stop a run whose losses or weights are not finite, before it is saved.

    The losses of past iterations are looked at together, so that the step
    need not wait for the device: every ``interval`` iterations, and before
    each checkpoint. So are the weights before they are written: the last
    update may have spoilt them, and no loss has seen it yet.

    Args:
        interval: How many iterations pass between two looks.

    Raises:
        ValueError: ``interval`` is less than one.
        FloatingPointError: A loss or a weight was not finite. It says which
            one, in which iteration, and which checkpoint is the last good one.
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
        # A mask may well hold infinities.
        self._never_finite = set(
            _not_finite(unwrap_model(runner).state_dict())
        )

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
        """Look before the weights are written, and at them."""
        self.look(runner)
        bad = _not_finite(checkpoint['state_dict'])
        bad = [name for name in bad if name not in self._never_finite]
        if bad:
            raise _error(
                runner,
                f'finite weights, got {len(bad)} tensors ({bad[0]}, ...) not '
                f'finite after iteration {self._done} of {runner.max_iters}',
            )

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
        raise _error(
            runner,
            f'finite losses, got {", ".join(parts)} not finite in iteration '
            f'{first} of {runner.max_iters}',
        )


def _error(runner, text: str) -> FloatingPointError:
    # A resumed run would go on with the learning rate of its checkpoint.
    pointer = Path(runner.work_dir, 'last_checkpoint')
    last = pointer.read_text() if pointer.exists() else 'none'
    return FloatingPointError(
        f'expected {text}; the last good checkpoint is {last}; lower the '
        'learning rate, or clip gradients '
        '(optim_wrapper.student.clip_grad), and start a new run, from the '
        'beginning or with load_from=CHECKPOINT'
    )


def _not_finite(state_dict: Dict[str, torch.Tensor]) -> List[str]:
    """Name the tensors that are not finite."""
    return [
        name
        for name, value in state_dict.items()
        if torch.is_tensor(value)
        and value.is_floating_point()
        and not value.isfinite().all()
    ]


def _losses(runner) -> dict:
    """Return the values of every loss, newest last."""
    scalars = runner.message_hub.log_scalars
    return {
        name: history.data[0]
        for name, history in scalars.items()
        if name.startswith('train/') and 'loss' in name
    }
