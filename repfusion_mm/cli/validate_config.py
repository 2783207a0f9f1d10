"""Refuse settings that mmengine would silently ignore."""

from __future__ import annotations

import inspect
import logging
from multiprocessing import get_all_start_methods
from typing import Any, Iterable, Set

from mmengine.config import Config
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmengine.utils.dl_utils import set_multi_processing

from repfusion_mm.engine.settings import find_nearest, suggest
from repfusion_mm.engine.settings.names import RENAMED, SETTINGS, find_near

#: Names that a runner reads of ``env_cfg``.
ENVIRONMENT = ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit')
#: Default hooks of mmengine, whose types a config may leave out.
DEFAULT_HOOKS = (
    'runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler',
    'checkpoint',
)  # fmt: skip


def check_options(cfg: Config, options: Iterable[str]) -> None:
    """Refuse keys of ``--cfg-options`` that nothing would read.

    A variable of the config is not a setting either: the settings that use
    it are already evaluated.
    """
    for key in options:
        name = key.split('.')[0]
        nearest = find_nearest(name, SETTINGS)
        if name == 'launcher':
            reason = 'which the option --launcher sets'
        elif name == 'data_preprocessor' and _has_preprocessor(cfg):
            reason = (
                'which nothing would read, because the model has its own; set '
                f'model.{key}'
            )
        elif name in SETTINGS:
            continue
        elif name in cfg:
            reason = (
                f'a variable of {cfg.filename} that is already evaluated; '
                f'{suggest(cfg, name)}, or edit the config'
            )
        elif nearest:
            reason = f'which nothing would read; did you mean {nearest}?'
        elif name in RENAMED or find_near(cfg, name):
            reason = f'which nothing would read; {suggest(cfg, name)}'
        else:
            names = ', '.join(sorted(SETTINGS))
            reason = f'which nothing would read; set one of {names}'
        raise ValueError(
            f'expected a setting in --cfg-options, got {key!r}, {reason}'
        )


def check_parts(model: Any, options: dict) -> None:
    """Refuse options of an optimizer whose part has nothing to train.

    Args:
        model: The model of the run.
        options: The keys and values of ``--cfg-options``.
    """
    parts = model.optim_parts() if hasattr(model, 'optim_parts') else {}
    for key, value in options.items():
        setting, _, rest = key.partition('.')
        part = rest.split('.')[0]
        if (
            setting in ('optim_wrapper', 'param_scheduler')
            and part in parts
            and value
            and not any(p.requires_grad for p in parts[part].parameters())
        ):
            raise ValueError(
                f'expected settings of parts with parameters to train, got '
                f'{key!r}, which nothing would read: the {part} has none; '
                f'leave it out, or change model.{part}'
            )


def check_values(cfg: Config) -> None:
    """Refuse values that mmengine ignores or reports without their name."""
    for name in (
        'randomness', 'train_dataloader', 'env_cfg', 'default_hooks',
        'train_cfg', 'auto_scale_lr',
    ):  # fmt: skip
        if not isinstance(cfg.get(name) or {}, dict):
            _refuse(f'{name}=dict(...)', cfg[name])
    if not isinstance(cfg.get('custom_hooks') or [], list):
        _refuse('custom_hooks=[dict(...), ...]', cfg.custom_hooks)
    _check_keys(cfg, 'env_cfg', {*ENVIRONMENT})
    _check_keys(cfg, 'auto_scale_lr', {'base_batch_size', 'enable'})
    _check_keys(cfg, 'randomness', _arguments(Runner.set_randomness))
    _check_keys(
        cfg.get('env_cfg') or {},
        'mp_cfg',
        _arguments(set_multi_processing) - {'distributed'},
        'env_cfg.',
    )
    _check_train_cfg(cfg)
    _check_param_scheduler(cfg)
    seed = (cfg.get('randomness') or {}).get('seed')
    loader = cfg.get('train_dataloader') or {}
    size, workers = loader.get('batch_size', 1), loader.get('num_workers', 0)
    level = cfg.get('log_level', 'INFO')
    if seed is not None and type(seed) is not int:
        _refuse('randomness.seed to be an integer', seed)
    if type(size) is not int or size < 1:
        _refuse('train_dataloader.batch_size to be 1 or more', size)
    if type(workers) is not int or workers < 0:
        _refuse('train_dataloader.num_workers to be 0 or more', workers)
    method = ((cfg.get('env_cfg') or {}).get('mp_cfg') or {}).get(
        'mp_start_method', 'fork'
    )
    if method not in get_all_start_methods():
        methods = ', '.join(get_all_start_methods())
        _refuse(f'env_cfg.mp_cfg.mp_start_method to be of {methods}', method)
    if isinstance(level, str) and level not in logging._nameToLevel:
        _refuse('log_level to be a level of logging ("INFO")', level)
    for key, hook in (cfg.get('default_hooks') or {}).items():
        if isinstance(hook, dict) and 'type' not in hook:
            nearest = find_nearest(key, {*DEFAULT_HOOKS} - {key})
            raise ValueError(
                f'expected a type in {f"default_hooks.{key}"!r}, got {hook}; '
                + (f'did you mean {nearest!r}?' if nearest else 'give it one')
            )


def _check_train_cfg(cfg: Config) -> None:
    """Check the settings of mmengine's own loops."""
    loop: Any = cfg.get('train_cfg') or {}
    loops: Any = {'EpochBasedTrainLoop': EpochBasedTrainLoop}
    loops['IterBasedTrainLoop'] = IterBasedTrainLoop
    if 'by_epoch' in loop:
        cls = EpochBasedTrainLoop if loop.by_epoch else IterBasedTrainLoop
    else:
        cls = loops.get(str(loop.get('type')), loop.get('type'))
    if cls not in loops.values():
        return
    known = _arguments(cls) - {'runner', 'dataloader'}
    _check_keys(cfg, 'train_cfg', known | {'by_epoch', 'type'})
    length = 'max_epochs' if cls is EpochBasedTrainLoop else 'max_iters'
    for name, value in loop.items():
        if name in (length, 'val_interval') and not (
            isinstance(value, (int, float)) and value >= 1
        ):
            _refuse(f'train_cfg.{name} to be 1 or more', value)
    if length not in loop:
        _refuse(f'train_cfg.{length} for {cls.__name__}', dict(loop))


def _check_param_scheduler(cfg: Config) -> None:
    """Refuse a mix of schedules for all parts and for each part."""
    schedules, optimizers = (
        cfg.get('param_scheduler'),
        cfg.get('optim_wrapper'),
    )
    if not isinstance(schedules, dict) or not isinstance(optimizers, dict):
        return
    parts = [k for k, v in optimizers.items() if isinstance(v, dict)]
    parts = [part for part in parts if 'optimizer' in optimizers[part]]
    own = [part for part in parts if part in schedules]
    other = sorted(k for k, v in schedules.items() if v and k not in own)
    if own and other:
        raise ValueError(
            f'expected param_scheduler with the parts {parts} only, got '
            f'{other}, which no part would read; set '
            f'param_scheduler.{own[0]}.{other[0]}, or, for all parts, '
            'param_scheduler=dict(_delete_=True, type=...)'
        )


def _check_keys(
    cfg: dict, name: str, known: Set[str], parent: str = ''
) -> None:
    """Refuse keys of a setting other than ``known``."""
    for key in cfg.get(name) or {}:
        if key not in known and key != '_scope_':
            nearest = find_nearest(key, known)
            raise ValueError(
                f'expected {parent}{name} with {", ".join(sorted(known))}, '
                f'got {f"{parent}{name}.{key}"!r}, which nothing would read; '
                + (
                    f'did you mean {nearest!r}?'
                    if nearest
                    else 'leave it out (_delete_=True drops '
                    'the settings of a base config)'
                )
            )


def _arguments(function: Any) -> Set[str]:
    return {*inspect.signature(function).parameters} - {'self'}


def _has_preprocessor(cfg: Config) -> bool:
    return bool(cfg.get('model', {}).get('data_preprocessor'))


def _refuse(expected: str, value: object) -> None:
    raise ValueError(f'expected {expected}, got {value!r}; correct it')
