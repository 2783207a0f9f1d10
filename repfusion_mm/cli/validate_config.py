"""Find settings that nothing reads: mmengine ignores them without a word."""

from __future__ import annotations

import difflib
import inspect
import logging
from typing import Iterable, List

from mmengine.config import Config
from mmengine.runner import Runner

#: What ``Runner.from_cfg`` takes, and what a runner reads of its config.
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

#: What a runner reads of ``env_cfg``.
ENVIRONMENT = ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit')
#: Those that every runner has, and a config may change.
DEFAULT_HOOKS = (
    'runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler',
    'checkpoint',
)  # fmt: skip


def check_names(cfg: Config) -> None:
    """Refuse a name at the top of a config that is nearly a setting.

    Other names are variables of the config, and all right.

    Raises:
        ValueError: There is one.
    """
    for name in cfg:
        meant = _nearest(name, SETTINGS)
        if name not in SETTINGS and meant:
            raise ValueError(
                f"expected settings of mmengine's Runner in {cfg.filename}, "
                f'got {name!r}, which nothing would read; did you mean '
                f'{meant[0]!r}? If not, call it otherwise'
            )


def check_options(cfg: Config, options: Iterable[str]) -> None:
    """Refuse options of the command line that nothing would read.

    Args:
        cfg: The config before they are merged into it.
        options: Their keys, as ``train_dataloader.batch_size``.

    Raises:
        ValueError: One sets what is no setting, or a variable, of which the
            settings were already made.
    """
    for key in options:
        name = key.split('.')[0]
        if name in SETTINGS:
            continue
        wrong = f'expected a setting in --cfg-options, got {key!r}'
        if name in cfg:
            raise ValueError(
                f'{wrong}, a variable of {cfg.filename}, of which its '
                'settings were already made; set those, as '
                'train_dataloader.dataset.data_root, or edit the config'
            )
        meant = _nearest(name, SETTINGS)
        raise ValueError(
            f'{wrong}, which nothing would read; '
            + (
                f'did you mean {meant[0]}?'
                if meant
                else f'set one of {", ".join(sorted(SETTINGS))}'
            )
        )


def check_values(cfg: Config) -> None:
    """Refuse values that mmengine would ignore, or fall over without a name.

    Raises:
        ValueError: There is one.
    """
    seed = (cfg.get('randomness') or {}).get('seed')
    if seed is not None and type(seed) is not int:
        raise ValueError(
            f'expected randomness.seed to be an integer, got {seed!r}; '
            'correct it, or leave it out'
        )
    level = cfg.get('log_level', 'INFO')
    if isinstance(level, str) and level not in logging._nameToLevel:
        raise ValueError(
            f'expected log_level to be a level of logging, as "INFO", got '
            f'{level!r}; correct it'
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
            meant = [i for i in _nearest(key, DEFAULT_HOOKS) if i != key]
            raise ValueError(
                f'expected a type in {f"default_hooks.{key}"!r}, got {hook}; '
                + (f'did you mean {meant[0]!r}?' if meant else 'give it one')
            )


def _nearest(name: str, names: Iterable[str]) -> List[str]:
    return difflib.get_close_matches(name, names, n=1, cutoff=0.85)
