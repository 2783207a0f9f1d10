"""Log what a step computed without waiting for the device."""

from __future__ import annotations

import copy
import math
from typing import Callable, Dict, List, Optional, Tuple

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import RuntimeInfoHook
from mmengine.logging import HistoryBuffer

from repfusion_mm.registry import HOOKS

#: Steps that may wait at most, where nobody reads.
MAX_PENDING = 1000


@HOOKS.register_module()
class BufferedRuntimeInfoHook(RuntimeInfoHook):
    """Keep a step's statistics on the device until somebody reads them.

    mmengine's ``RuntimeInfoHook`` asks the device for every statistic in
    every iteration, and the next step waits for the answer. This one averages
    them over ranks on the device, and fetches those of all past steps at
    once, when the logger, a checkpoint or another hook reads one. The history
    is the same. A statistic, other than a loss, that is not a number in a
    step was not there in it and is left out.

    In the config: ``default_hooks=dict(runtime_info=dict(
    type='repfusion_mm.BufferedRuntimeInfoHook'))``.
    """

    def __init__(self) -> None:
        self._names: Tuple[str, ...] = ()
        self._rows: List[torch.Tensor] = []
        self._histories: List[BufferedHistory] = []
        self._lazy: Dict[str, BufferedHistory] = {}

    def after_train_iter(
        self,
        runner,
        batch_idx: int,
        data_batch: Optional[dict] = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Keep the statistics of this step."""
        if not outputs:
            return
        names = tuple(f'train/{name}' for name in outputs)
        if names != self._names or len(self._rows) >= MAX_PENDING:
            self.fetch()
        self._names = names
        self._histories = [
            self._lazy_history(runner.message_hub, name) for name in names
        ]
        row = torch.stack([v.detach().float() for v in outputs.values()])
        all_reduce(row, 'mean')
        self._rows.append(row)

    def fetch(self) -> None:
        """Move what was kept into the histories."""
        if not self._rows:
            return
        rows, self._rows = self._rows, []
        for row in torch.stack(rows).tolist():
            for history, value in zip(self._histories, row):
                history.append(value)

    def _lazy_history(self, hub, name: str) -> BufferedHistory:
        """Return our history of a name, in the place of mmengine's own."""
        history = hub.log_scalars.get(name)
        if history is None:
            hub.update_scalar(name, math.nan)  # registers the name
            history = HistoryBuffer()
        elif history is self._lazy.get(name):
            return history
        past = copy.deepcopy(history)
        lazy = BufferedHistory(past, 'loss' in name, self.fetch)
        hub.log_scalars[name] = self._lazy[name] = lazy
        return lazy


class BufferedHistory(HistoryBuffer):
    """A history that fetches its newest values when it is read.

    A copy of it, as in a checkpoint, is an ordinary ``HistoryBuffer``.

    Args:
        past: The history so far.
        keeps_nan: Whether values that are not numbers belong to it.
        fetch: Appends what is missing.
    """

    def __init__(
        self, past: HistoryBuffer, keeps_nan: bool, fetch: Callable
    ) -> None:
        self._past = past
        self._keeps_nan = keeps_nan
        self._fetch = fetch

    def append(self, value: float) -> None:
        """Append a value that was fetched."""
        empty = len(self._past.data[0]) == 0
        if self._keeps_nan or empty or not math.isnan(value):
            self._past.update(value)

    def update(self, log_val: float, count: int = 1) -> None:
        """Append a value at once."""
        self._fetch()
        self._past.update(log_val, count)

    @property
    def max_length(self) -> int:
        return self._past.max_length

    @property
    def _log_history(self):
        self._fetch()
        return self._past._log_history

    @property
    def _count_history(self):
        self._fetch()
        return self._past._count_history

    def __deepcopy__(self, memo: dict) -> HistoryBuffer:
        self._fetch()
        return copy.deepcopy(self._past, memo)
