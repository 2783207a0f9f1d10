"""What a checkpoint must hold for a run to go on from it."""

from __future__ import annotations

import math
from typing import List

from repfusion_mm.engine.checkpoint.io import name_of_loaded

#: What mmengine's ``MessageHub`` asks for.
LOGS = ('log_scalars', 'runtime_info', 'resumed_keys')


def check_resumable(runner, checkpoint: dict) -> None:
    """Refuse a checkpoint of which parts are missing or odd.

    mmengine begins an optimizer or schedules anew if they are not there, and
    ends at once behind the last iteration.

    Raises:
        ValueError: It names them, and the file.
    """
    hub = checkpoint.get('message_hub')
    if not isinstance(hub, dict) or not hub.keys() >= set(LOGS):
        hub = dict(runtime_info={})
        faults = ['no message_hub']
    else:
        faults = []
    faults += _faults_of_meta(checkpoint.get('meta'), hub['runtime_info'])
    if not checkpoint.get('optimizer'):
        faults.append('no optimizer')
    schedules = _count(checkpoint.get('param_schedulers'))
    if schedules != _count(runner.param_schedulers):
        faults.append(
            f'param_schedulers of {schedules} schedules instead of '
            f'{_count(runner.param_schedulers)}'
        )
    if faults:
        raise ValueError(
            f'expected in {name_of_loaded(runner)} a checkpoint to resume '
            f'from, got {", ".join(faults)}: it is partial, as with '
            'save_optimizer=False; begin a new run with '
            'load_from=CHECKPOINT, without --resume'
        )


def _faults_of_meta(meta: object, info: dict) -> List[str]:
    if not isinstance(meta, dict):
        return ['no meta']
    faults = []
    for name in ('epoch', 'iter'):
        value = meta.get(name)
        most = info.get(f'max_{name}s')
        limit = most if isinstance(most, int) else math.inf
        if type(value) is not int or not 0 <= value <= limit:
            faults.append(f'meta.{name}={value!r} instead of 0 to {most}')
    return faults


def _count(schedules: object) -> object:
    """Return the number of schedules, of each part where there are parts."""
    if isinstance(schedules, dict):
        return {name: len(part) for name, part in schedules.items()}
    return len(schedules or [])
