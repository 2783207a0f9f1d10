"""Find settings that mmengine would silently ignore."""

from __future__ import annotations

import difflib
import inspect
import logging
from typing import Iterable, List

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
#: Default hooks of mmengine, to which a config may merge settings.
DEFAULT_HOOKS = (
    'runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler',
    'checkpoint',
)  # fmt: skip


def check_names(cfg: Config) -> None:
    """Refuse a top-level name that is nearly the name of a setting.

    Other names are variables of the config and are accepted.

    Raises:
        ValueError: There is such a name.
    """
    for name in cfg:
        nearest = _nearest(name, SETTINGS)
        if name not in SETTINGS and nearest:
            raise ValueError(
                f"expected settings of mmengine's Runner in {cfg.filename}, "
                f'got {name!r}, which nothing would read; did you mean '
                f'{nearest[0]!r}? If not, rename it'
            )


def check_options(cfg: Config, options: Iterable[str]) -> None:
    """Refuse options of the command line that nothing would read.

    Args:
        cfg: The config before the options are merged.
        options: Their keys, for example ``train_dataloader.batch_size``.

    Raises:
        ValueError: An option sets neither a setting nor a part of one. A
            variable of the config counts as neither: the settings that use
            it are already evaluated.
    """
    for key in options:
        name = key.split('.')[0]
        if name in SETTINGS:
            continue
        wrong = f'expected a setting in --cfg-options, got {key!r}'
        if name in cfg:
            raise ValueError(
                f'{wrong}, a variable of {cfg.filename} that is already '
                'evaluated; set the settings that use it, for example '
                'train_dataloader.batch_size, or edit the config'
            )
        nearest = _nearest(name, SETTINGS)
        raise ValueError(
            f'{wrong}, which nothing would read; '
            + (
                f'did you mean {nearest[0]}?'
                if nearest
                else f'set one of {", ".join(sorted(SETTINGS))}'
            )
        )


def check_values(cfg: Config) -> None:
    """Refuse values that mmengine ignores or reports without their name.

    Raises:
        ValueError: There is such a value.
    """
    seed = (cfg.get('randomness') or {}).get('seed')
    if seed is not None and type(seed) is not int:
        raise ValueError(
            f'expected randomness.seed to be an integer, got {seed!r}; '
            'correct it, or leave it out'
        )
    size = (cfg.get('train_dataloader') or {}).get('batch_size', 1)
    if type(size) is not int or size < 1:
        raise ValueError(
            'expected train_dataloader.batch_size to be an integer of 1 or '
            f'more, got {size!r}; correct it'
        )
    level = cfg.get('log_level', 'INFO')
    if isinstance(level, str) and level not in logging._nameToLevel:
        raise ValueError(
            'expected log_level to be a level of logging, for example '
            f'"INFO", got {level!r}; correct it'
        )
    for key in cfg.get('env_cfg') or {}:
        if key not in ENVIRONMENT:
            raise ValueError(
                f'expected env_cfg with {", ".join(ENVIRONMENT)}, got '
                f'{f"env_cfg.{key}"!r}, which nothing would read; correct '
                'its name, or leave it out'
            )
    for key, hook in (cfg.get('default_hooks') or {}).items():
        if isinstance(hook, dict) and 'type' not in hook:
            nearest = [i for i in _nearest(key, DEFAULT_HOOKS) if i != key]
            raise ValueError(
                f'expected a type in {f"default_hooks.{key}"!r}, got {hook}; '
                + (
                    f'did you mean {nearest[0]!r}?'
                    if nearest
                    else 'give it one'
                )
            )


def _nearest(name: str, names: Iterable[str]) -> List[str]:
    return difflib.get_close_matches(name, names, n=1, cutoff=0.85)
