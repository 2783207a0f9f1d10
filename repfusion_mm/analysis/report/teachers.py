"""What the page shows of the training of a teacher."""

from __future__ import annotations

import re
from pathlib import Path
from typing import List, NamedTuple, Optional

from repfusion_mm.analysis.report.runs import Run, iteration_of

EXPORT_HOOK = 'ExportDiffusersHook'


class Progress(NamedTuple):
    """How far a run is."""

    done: int
    total: Optional[int]
    unit: str  # iterations or epochs

    def __str__(self) -> str:
        return f'{self.done} of {self.total or "?"} {self.unit}'


def read_progress(run: Run) -> Progress:
    """Read how far a run is from its logs, pictures and last checkpoint."""
    epochs = run.settings.get('train_cfg.max_epochs')
    iterations = run.settings.get('train_cfg.max_iters')
    total = epochs or iterations
    done: List[float] = [0]
    pointer = run.folder / 'last_checkpoint'
    if pointer.exists():
        kind = 'epoch' if epochs else 'iter'
        text = pointer.read_text(encoding='utf-8')
        saved = re.search(rf'{kind}_(\d+)\.pth$', text.strip())
        done += [int(saved.group(1))] if saved else []
    if epochs:
        done += [epoch - 1 for _, epoch in run.curves.get('epoch', [])[-1:]]
    else:
        done += [iteration for iteration, _ in run.curves.get('loss', [])[-1:]]
        done += [iteration_of(path) for path in run.pictures[-1:]]
    return Progress(
        int(max(done)),
        int(total) if total and total.isdecimal() else None,
        'epochs' if epochs else 'iterations',
    )


def find_export(run: Run) -> Optional[Path]:
    """Return the folder that ExportDiffusersHook has written, if any."""
    for key, value in run.settings.items():
        if value.split('.')[-1] == EXPORT_HOOK and key.endswith('.type'):
            name = key[: -len('type')] + 'filename'
            path = run.folder / run.settings.get(name, 'teacher')
            return path if path.is_dir() else None
    return None
