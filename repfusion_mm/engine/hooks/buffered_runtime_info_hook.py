"""Log the statistics of a step without synchronizing with the device."""

from __future__ import annotations

import math
from functools import reduce
from typing import Dict, List, Optional, Tuple

import numpy as np
import torch
from mmengine.dist import all_reduce
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.logging import HistoryBuffer

from repfusion_mm.engine.utils import (
    check_single,
    unwrap_model,
    use_hooks_once,
)
from repfusion_mm.models.diffusion.base import GenerativeModel
from repfusion_mm.models.distillers.repfusion import RepFusion
from repfusion_mm.registry import HOOKS
from repfusion_mm.utils.arguments import check_integer


@HOOKS.register_module()
class BufferedRuntimeInfoHook(RuntimeInfoHook):
    """Keep the statistics of a step on the device until they are logged.

    mmengine's ``RuntimeInfoHook`` copies every statistic to the host in every
    iteration, and the next step waits for that. This hook keeps them on the
    device, and appends them to the histories of the message hub together
    (*flush*):

    - every ``interval`` iterations of an epoch, as ``LoggerHook`` counts;
    - at the end of an epoch and of the run, and before a validation or a
      checkpoint;
    - when another hook calls :func:`flush_statistics`.

    The histories equal mmengine's with one exception: NaN in a statistic
    whose name does not contain 'loss' means that a step did not have it (the
    reward of a batch without labels), and is left out after the first step.

    The statistics of models of this package are averaged over the processes.
    Those of other models are of the first process, as with mmengine: some
    have no ``loss_bbox`` in a process without boxes.

    A hook of your own that reads ``train/...`` in ``after_train_iter`` needs
    ``flush_statistics`` or ``interval=1``.

    Args:
        interval: Largest number of iterations between two flushes. By default
            the interval of ``LoggerHook``. It is lowered to a divisor of the
            interval of each ``LoggerHook``.

    Raises:
        ValueError: ``interval`` is less than one. Before training: there is a
            second ``RuntimeInfoHook``.
    """

    def __init__(self, interval: Optional[int] = None) -> None:
        if interval is not None:
            check_integer('default_hooks.runtime_info.interval', interval)
        self.interval = interval
        self._names: Tuple[str, ...] = ()
        self._rows: List[torch.Tensor] = []

    def before_run(self, runner) -> None:
        """Use each hook once."""
        use_hooks_once(runner)
        super().before_run(runner)

    def before_train(self, runner) -> None:
        """Check that there is no other hook of this kind."""
        super().before_train(runner)
        check_single(runner, RuntimeInfoHook)

    def before_train_epoch(self, runner) -> None:
        """Flush whenever a logger reads.

        ``ShortRunLoggerHook`` lowers its interval in ``before_train``.
        """
        super().before_train_epoch(runner)
        logged = [
            i.interval for i in runner.hooks if isinstance(i, LoggerHook)
        ]
        self.interval = reduce(math.gcd, logged, self.interval or 0) or 1

    def after_train_iter(
        self,
        runner,
        batch_idx: int,
        data_batch: Optional[dict] = None,
        outputs: Optional[Dict[str, torch.Tensor]] = None,
    ) -> None:
        """Keep the statistics of this step."""
        if outputs:
            names = tuple(f'train/{name}' for name in outputs)
            if names != self._names:
                self.flush(runner)
                self._names = names
            values = [value.detach().float() for value in outputs.values()]
            device = values[0].device  # some losses of mmpretrain are on CPUs
            row = torch.stack([value.to(device) for value in values])
            model = unwrap_model(runner)
            if isinstance(model, (RepFusion, GenerativeModel)):
                all_reduce(row, 'mean')
            self._rows.append(row)
        if self.every_n_inner_iters(batch_idx, self.interval or 1) or (
            self.end_of_epoch(runner.train_dataloader, batch_idx)
        ):
            self.flush(runner)

    def after_train_epoch(self, runner) -> None:
        """Flush at the end of an epoch that was resumed within."""
        self.flush(runner)

    def before_val(self, runner) -> None:
        """Flush before a validation."""
        self.flush(runner)
        super().before_val(runner)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Flush, and write the complete histories into the checkpoint."""
        self.flush(runner)
        state = runner.message_hub.state_dict()
        checkpoint['message_hub'].update(
            log_scalars=state['log_scalars'],
            resumed_keys=state['resumed_keys'],
        )

    def after_train(self, runner) -> None:
        """Flush at the end of the run."""
        self.flush(runner)
        super().after_train(runner)

    def flush(self, runner) -> None:
        """Append the statistics that are on the device to the histories."""
        if not self._rows:
            return
        scalars = runner.message_hub.log_scalars
        rows, self._rows = self._rows, []
        for name, column in zip(self._names, zip(*torch.stack(rows).tolist())):
            values = [*column]
            if name not in scalars:  # its name may be wrong, or its value
                runner.message_hub.update_scalar(name, values.pop(0))
            if 'loss' not in name:
                values = [value for value in values if not math.isnan(value)]
            if values:
                scalars[name] = extend(scalars[name], values)


def extend(history: HistoryBuffer, values: List[float]) -> HistoryBuffer:
    """Return a history with more values.

    mmengine's ``update`` copies the history for each of them.
    """
    old, counts = history.data
    size = history.max_length
    new = np.concatenate([old, values])[-size:]
    counts = np.concatenate([counts, np.ones(len(values))])[-size:]
    return HistoryBuffer(new, counts, size)


def flush_statistics(runner) -> None:
    """Let the histories of ``runner.message_hub`` hold all past steps."""
    for hook in runner.hooks:
        if isinstance(hook, BufferedRuntimeInfoHook):
            hook.flush(runner)
