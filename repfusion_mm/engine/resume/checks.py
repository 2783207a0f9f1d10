"""Check that a run can continue from a checkpoint."""

from __future__ import annotations

import math
from typing import Dict, List, Optional, Union

from mmengine.dist import get_world_size
from mmengine.hooks import EMAHook
from mmengine.runner import EpochBasedTrainLoop

from repfusion_mm.engine.checkpoint.io import find_loaded_path
from repfusion_mm.engine.utils import unwrap_model
from repfusion_mm.utils.settings import flatten_settings

#: Keys of the state of mmengine's ``MessageHub``.
HUB_KEYS = ('log_scalars', 'runtime_info', 'resumed_keys')
#: Settings that mmengine takes from the checkpoint instead of the config, and
#: settings that decide which images are in which batch.
IMMUTABLE = (
    'optim_wrapper',
    'param_scheduler',
    'auto_scale_lr',
    'train_dataloader.batch_size',
    'train_dataloader.batch_sampler',
    'train_dataloader.sampler',
)
#: Where other settings are whose changes are logged.
LOGGED = ('model', 'train_dataloader', 'default_hooks', 'custom_hooks')
#: State of mmengine's schedules that changes with each step.
STEPPED = (
    'last_step', '_global_step', '_last_value',
    'best', 'num_bad_epochs', 'cooldown_counter',
)  # fmt: skip
#: Of a run, next to its settings.
NUM_IMAGES = 'images of train_dataloader'


def check_resumable(runner, checkpoint: dict) -> None:
    """Refuse a checkpoint that is partial, or of a run of another length.

    The length may differ if nothing depends on it. mmengine silently
    re-initializes optimizers and schedules that are missing, and ends a run
    whose checkpoint is after its last iteration.

    Raises:
        ValueError: The run cannot be resumed from the checkpoint.
    """
    hub = checkpoint.get('message_hub')
    problems = []
    if not isinstance(hub, dict) or not hub.keys() >= set(HUB_KEYS):
        hub = dict(runtime_info={})
        problems.append('no message_hub')
    info = hub['runtime_info']
    problems += _find_meta_problems(checkpoint.get('meta'), info)
    if not checkpoint.get('optimizer'):
        problems.append('no optimizer')
    expected = _count_schedules(runner.param_schedulers)
    found = _count_schedules(checkpoint.get('param_schedulers'))
    if found != expected:
        problems.append(
            f'param_schedulers of {found} schedules instead of {expected}'
        )
    averages = any(isinstance(hook, EMAHook) for hook in runner.hooks)
    if 'ema_state_dict' in checkpoint and not averages:
        raise ValueError(
            f'expected an EMAHook to resume from {find_loaded_path(runner)}, '
            'whose weights are averaged, got none; add the EMAHook of the run '
            'that wrote it, or start a new run with load_from=CHECKPOINT'
        )
    if problems:
        raise ValueError(
            f'expected in {find_loaded_path(runner)} a checkpoint to resume '
            f'from, got {", ".join(problems)}: it is partial, as with '
            'save_optimizer=False; start a new run with load_from=CHECKPOINT, '
            'without --resume'
        )
    max_iters = info.get('max_iters', runner.max_iters)
    if max_iters == runner.max_iters:
        return
    reason = find_dependence(runner, checkpoint, info)
    if reason:
        raise ValueError(
            f'expected a run of {max_iters} iterations, as the checkpoint was '
            f'written in, got {runner.max_iters}: {reason}; resume with the '
            'same data, batch size, processes and length, or start a new run '
            'with load_from=CHECKPOINT, which loads the weights, but not '
            'the state of optimizers and the count of iterations'
        )


def immutable_settings(runner) -> Dict[str, str]:
    """Return the settings that a resumed run must keep, flattened."""
    flat = flatten_settings(runner.cfg.to_dict())
    settings = {k: v for k, v in flat.items() if k.startswith(IMMUTABLE)}
    settings = {**_name_classes(settings), 'processes': str(get_world_size())}
    dataset = runner.train_dataloader.dataset
    if hasattr(dataset, '__len__'):
        settings[NUM_IMAGES] = str(len(dataset))
    return settings


def check_immutable_settings(runner, meta: dict) -> None:
    """Refuse settings that differ from those of the checkpoint.

    Args:
        runner: The runner that resumes.
        meta: ``meta`` of the checkpoint.

    Raises:
        ValueError: A setting that must not change differs.
    """
    before, now = meta.get('immutable_settings'), immutable_settings(runner)
    if before is None:  # written without ExactResumeHook
        return
    before = _name_classes(before)
    if NUM_IMAGES not in before:  # an earlier version wrote it
        now.pop(NUM_IMAGES, None)
    seed = runner.cfg.get('randomness', {}).get('seed')
    if seed is not None:  # otherwise mmengine takes the checkpoint's
        before = {**before, 'randomness.seed': str(meta.get('seed'))}
        now['randomness.seed'] = str(seed)
    differ = _differences(before, now)
    if differ:
        raise ValueError(
            'expected the settings of the run that wrote the checkpoint, got '
            f'others: {differ}; resume with the same settings, or '
            'start a new run with load_from=CHECKPOINT'
        )


def external_hashes(runner) -> Dict[str, str]:
    """Return hashes of what the model depends on but does not save."""
    return getattr(unwrap_model(runner), 'external_hashes', {})


def check_external_hashes(runner, meta: dict) -> None:
    """Refuse another frozen model than that of the checkpoint's run.

    The names of weights that are cast end in their dtype. Weights of another
    dtype cannot be compared, which is logged as a warning.

    Raises:
        ValueError: A hash differs, or only one of the runs has it.
    """
    before, now = meta.get('external_hashes'), external_hashes(runner)
    if before is None:  # written without them
        return
    names = {*before, *now}
    cast = {name for name in names if ' in torch.' in name}
    compared = (names - cast) | (before.keys() & now.keys())
    differ = [n for n in sorted(compared) if before.get(n) != now.get(n)]
    if differ:
        raise ValueError(
            'expected the frozen model that the checkpoint was trained with, '
            f'got another one ({", ".join(differ)}); put its files and '
            'settings, such as prompt or class_signal, back, or '
            'start a new run with load_from=CHECKPOINT'
        )
    if before.keys() != now.keys():
        runner.logger.warning(
            f'the checkpoint was trained with {sorted(before)}, now is '
            f'{sorted(now)}: whether these are the same weights is not checked'
        )


def other_settings(runner) -> Dict[str, str]:
    """Return the settings that a resumed run may change, flattened."""
    cfg = runner.cfg.to_dict()
    flat = flatten_settings({key: cfg.get(key) for key in LOGGED})
    return {k: v for k, v in flat.items() if not k.startswith(IMMUTABLE)}


def log_changed_settings(runner, meta: dict) -> None:
    """Warn of settings that differ from those of the checkpoint."""
    before, now = meta.get('other_settings'), other_settings(runner)
    if before is None:
        return
    differ = _differences(before, now)
    if differ:
        runner.logger.warning(
            f'the checkpoint was written with other settings: {differ}'
        )


def _differences(before: Dict[str, str], now: Dict[str, str]) -> str:
    return ', '.join(
        f'{name}={before.get(name)} (now {now.get(name)})'
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    )


def _name_classes(settings: Dict[str, str]) -> Dict[str, str]:
    """Remove modules, scopes and quotes from the names of classes."""
    return {
        name: value.split('.')[-1].strip("'>")
        if name.endswith('type')
        else value
        for name, value in settings.items()
    }


def _find_meta_problems(meta: object, info: dict) -> List[str]:
    if not isinstance(meta, dict):
        return ['no meta']
    problems = []
    for name in ('epoch', 'iter'):
        value = meta.get(name)
        largest = info.get(f'max_{name}s')
        limit = largest if isinstance(largest, int) else math.inf
        if type(value) is not int or not 0 <= value <= limit:
            problems.append(f'meta.{name}={value!r} instead of 0 to {largest}')
    return problems


def find_dependence(runner, checkpoint: dict, info: dict) -> Optional[str]:
    """Return what depends on the length of a run, None if nothing does."""
    epochs = info.get('max_epochs')
    if isinstance(runner.train_loop, EpochBasedTrainLoop) and epochs:
        before = info['max_iters'] / epochs
        now = runner.max_iters / runner.max_epochs
        if before != now:
            return f'an epoch had {before:g} iterations and now has {now:g}'
    for name, value in _fixed_values(checkpoint.get('param_schedulers')):
        if (name, value) not in _fixed_values(runner.param_schedulers):
            return (
                f'its schedules end with the run ({name}={value}), and would '
                'be taken from the checkpoint'
            )
    policy = getattr(unwrap_model(runner), 'policy', None)
    if getattr(policy, 'learnable', False):
        return 'the entropy weight of its policy decreases with the length'
    return None


def _fixed_values(schedules: Union[dict, list, None]) -> List[tuple]:
    """Return what does not change while schedules are stepped."""
    if isinstance(schedules, dict):
        return [
            (f'{part}.{name}', value)
            for part, values in schedules.items()
            for name, value in _fixed_values(values)
        ]
    states = [
        i if isinstance(i, dict) else i.state_dict() for i in schedules or []
    ]
    return [
        (f'{index}.{name}', value)
        for index, state in enumerate(states)
        for name, value in state.items()
        if name not in STEPPED
    ]


def _count_schedules(
    schedules: Union[dict, list, None],
) -> Union[Dict[str, int], int]:
    if isinstance(schedules, dict):
        return {name: len(part) for name, part in schedules.items()}
    return len(schedules or [])
