"""Refuse settings that mmengine would silently ignore."""

from __future__ import annotations

import difflib
import inspect
import logging
from typing import Iterable

from mmengine.config import Config
from mmengine.runner import Runner

#: Arguments of ``Runner``, and the names that a runner reads of its config.
SETTINGS = {
    *list(inspect.signature(Runner.__init__).parameters)[1:],
    'activation_checkpointing',
    'auto_scale_lr',
    'compile',
    'custom_imports',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'probe_dataset',  # of tools/analysis_tools/probe_timesteps.py
    'sync_bn',
} - {'cfg'}
#: Names that a runner reads of ``env_cfg``.
ENVIRONMENT = ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit')
#: Default hooks of mmengine, whose types a config may leave out.
DEFAULT_HOOKS = (
    'runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler',
    'checkpoint',
)  # fmt: skip


def check_names(cfg: Config) -> None:
    """Refuse a top-level name that is nearly the name of a setting.

    Other names are variables of the config.
    """
    for name in cfg:
        nearest = _nearest(name, SETTINGS)
        if name not in SETTINGS and nearest:
            raise ValueError(
                f"expected settings of mmengine's Runner in {cfg.filename}, "
                f'got {name!r}, which nothing would read; did you mean '
                f'{nearest!r}? If not, rename it'
            )


def check_options(cfg: Config, options: Iterable[str]) -> None:
    """Refuse keys of ``--cfg-options`` that nothing would read.

    A variable of the config is not a setting either: the settings that use
    it are already evaluated.
    """
    for key in options:
        name = key.split('.')[0]
        if name in SETTINGS:
            continue
        nearest = _nearest(name, SETTINGS)
        if name in cfg:
            reason = (
                f'a variable of {cfg.filename} that is already evaluated; set '
                'the settings that use it, or edit the config'
            )
        elif nearest:
            reason = f'which nothing would read; did you mean {nearest}?'
        else:
            names = ', '.join(sorted(SETTINGS))
            reason = f'which nothing would read; set one of {names}'
        raise ValueError(
            f'expected a setting in --cfg-options, got {key!r}, {reason}'
        )


def check_values(cfg: Config) -> None:
    """Refuse values that mmengine ignores or reports without their name."""
    for name in (
        'randomness', 'train_dataloader', 'env_cfg', 'default_hooks',
        'train_cfg',
    ):  # fmt: skip
        if not isinstance(cfg.get(name) or {}, dict):
            _refuse(f'{name}=dict(...)', cfg[name])
    seed = (cfg.get('randomness') or {}).get('seed')
    size = (cfg.get('train_dataloader') or {}).get('batch_size', 1)
    level = cfg.get('log_level', 'INFO')
    if seed is not None and type(seed) is not int:
        _refuse('randomness.seed to be an integer', seed)
    if type(size) is not int or size < 1:
        _refuse('train_dataloader.batch_size to be 1 or more', size)
    if isinstance(level, str) and level not in logging._nameToLevel:
        _refuse('log_level to be a level of logging ("INFO")', level)
    for key in cfg.get('env_cfg') or {}:
        if key not in ENVIRONMENT:
            raise ValueError(
                f'expected env_cfg with {", ".join(ENVIRONMENT)}, got '
                f'{f"env_cfg.{key}"!r}, which nothing would read; correct '
                'its name, or leave it out'
            )
    for key, hook in (cfg.get('default_hooks') or {}).items():
        if isinstance(hook, dict) and 'type' not in hook:
            nearest = _nearest(key, {*DEFAULT_HOOKS} - {key})
            raise ValueError(
                f'expected a type in {f"default_hooks.{key}"!r}, got {hook}; '
                + (f'did you mean {nearest!r}?' if nearest else 'give it one')
            )


def _refuse(expected: str, value: object) -> None:
    raise ValueError(f'expected {expected}, got {value!r}; correct it')


def _nearest(name: str, names: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.85)
    return found[0] if found else ''
