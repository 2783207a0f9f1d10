"""Stop a run when a loss or a weight is NaN or Inf."""

from __future__ import annotations

import re
from typing import Dict, List

import numpy as np
import torch
from mmengine.hooks import Hook

from repfusion_mm.engine.hooks.buffered_runtime_info_hook import (
    flush_statistics,
)
from repfusion_mm.engine.utils import (
    last_checkpoint,
    unwrap_model,
)
from repfusion_mm.registry import HOOKS
from repfusion_mm.utils.arguments import check_integer


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stop a run whose losses or weights are not finite, before it is saved.

    The losses are checked every ``interval`` iterations and before each
    checkpoint, so that a step does not synchronize with the device. The
    weights are checked before each checkpoint, because the losses before it
    do not show the result of the last update.

    Args:
        interval: Number of iterations between two checks.

    Raises:
        ValueError: ``interval`` is not an integer of 1 or more.
        FloatingPointError: A loss or a weight was not finite. The message
            names it, the iteration and the last good checkpoint.
    """

    # After RuntimeInfoHook, which logs the losses.
    priority = 'BELOW_NORMAL'

    def __init__(self, interval: int = 50) -> None:
        check_integer('default_hooks.finite_loss.interval', interval)
        self.interval = interval

    def before_train(self, runner) -> None:
        """Count the iterations from those of a resumed run."""
        self._num_checked = self._num_done = runner.iter
        # Some buffers contain Inf by design, such as attention masks.
        self._never_finite = set(
            _find_not_finite(unwrap_model(runner).state_dict())
        )

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        """Check the losses every ``interval`` iterations."""
        self._num_done = runner.iter + 1
        if self._num_done % self.interval == 0:
            self.check_losses(runner)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Check the losses, and the weights that are about to be written."""
        self.check_losses(runner)
        names = _find_not_finite(checkpoint['state_dict'])
        # With an EMAHook, which has exchanged them, those of the last update.
        raw = _find_not_finite(checkpoint.get('ema_state_dict', {}))
        names += [re.sub('^module[.]', '', name) for name in raw]
        names = [name for name in names if name not in self._never_finite]
        if names:
            raise _error(
                runner,
                f'finite weights, got {len(names)} tensors ({names[0]}, ...) '
                f'not finite after iteration {self._num_done} of '
                f'{runner.max_iters}',
            )

    def check_losses(self, runner) -> None:
        """Check the losses of the iterations since the last check."""
        num_new = self._num_done - self._num_checked
        self._num_checked = self._num_done
        if num_new <= 0:
            return
        flush_statistics(runner)
        first_iters = {}
        for key, history in runner.message_hub.log_scalars.items():
            group, _, name = key.partition('/')
            if group != 'train' or 'loss' not in name:
                continue
            new = history.data[0][-num_new:]
            (bad,) = np.nonzero(~np.isfinite(new))
            if len(bad):
                first_iters[name] = self._num_done - len(new) + bad[0] + 1
        if not first_iters:
            return
        first = min(first_iters.values())
        names = [name for name, i in first_iters.items() if i == first]
        # The sum is not finite because one of its terms is not.
        terms = [name for name in names if name != 'loss'] or names
        raise _error(
            runner,
            f'finite losses, got {", ".join(terms)} not finite in iteration '
            f'{first} of {runner.max_iters}',
        )


def _error(runner, text: str) -> FloatingPointError:
    # A resumed run would use the learning rate of its checkpoint.
    return FloatingPointError(
        f'expected {text}; the last good checkpoint is '
        f'{last_checkpoint(runner)}; lower the learning rate, or clip '
        'gradients (optim_wrapper.student.clip_grad), and start a new run, '
        'from the beginning or with load_from=CHECKPOINT'
    )


def _find_not_finite(state_dict: Dict[str, torch.Tensor]) -> List[str]:
    """Return the names of tensors with NaN or Inf."""
    return [
        name
        for name, value in state_dict.items()
        if torch.is_tensor(value)
        and value.is_floating_point()
        and not value.isfinite().all()
    ]
