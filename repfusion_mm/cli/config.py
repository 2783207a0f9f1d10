"""Read and validate the config of a command line."""

import argparse
import logging
import os
from pathlib import Path
from typing import Any, Iterable, Optional

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader
from mmengine.utils import import_modules_from_strings

import repfusion_mm  # noqa: F401  # applies the workarounds
from repfusion_mm.cli.files import CONFIG_SUFFIXES, check_file
from repfusion_mm.cli.home import expand_home
from repfusion_mm.cli.launcher import check_launcher
from repfusion_mm.cli.validate_config import check_options, check_schedules
from repfusion_mm.engine.checkpoint.io import load_from_address
from repfusion_mm.engine.checkpoint.safe_pickle import FORBIDDEN, FORCED
from repfusion_mm.engine.settings import (
    check_names,
    check_types,
    check_values,
)
from repfusion_mm.engine.settings.values import DEFAULT_HOOKS
from repfusion_mm.registry import registered_names
from repfusion_mm.utils.malloc import keep_freed_memory

#: Beginnings of addresses that mmengine itself would read with torch.load.
ADDRESSES = (
    '', 'http://', 'https://', r'(\S+\:)?s3://', r'(\S+\:)?petrel://'
)  # fmt: skip


def load_config(args: argparse.Namespace) -> Config:
    """Read a config, merge the common options into it, and validate it.

    Raises:
        ValueError: The work directory is set twice, to different paths.
        Exception: See :func:`read_config`.
    """
    check_launcher(args.launcher)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    work_dir = (args.cfg_options or {}).get('work_dir', args.work_dir)
    if args.work_dir and work_dir != args.work_dir:
        raise ValueError(
            f'expected one work directory, got --work-dir {args.work_dir} and '
            f'--cfg-options work_dir={work_dir}; leave one of them out'
        )
    cfg = read_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    default = cfg.get('work_dir') or f'work_dirs/{Path(args.config).stem}'
    cfg.work_dir = os.path.expanduser(args.work_dir or default)
    if not torch.cuda.is_available():
        keep_freed_memory()
        if args.launcher == 'pytorch':
            _use_cpu_processes(cfg)
    return cfg


def read_config(path: str, options: Optional[dict] = None) -> Config:
    """Read a config, merge options into it, and validate it.

    Afterwards, checkpoints that would run code are refused in this process.

    Raises:
        FileNotFoundError: There is no such file.
        SyntaxError: The file is not valid Python.
        ValueError: A setting is unknown, or its value is invalid.
    """
    enable_safe_loading()
    check_file(path, 'a config')
    if Path(path).suffix not in CONFIG_SUFFIXES:
        raise ValueError(
            f'expected a config in a file {", ".join(CONFIG_SUFFIXES)}, got '
            f'{path!r}; give the path of a config, such as those in configs/'
        )
    path = os.path.expanduser(path)
    try:
        cfg = Config.fromfile(path)
    except SyntaxError as error:  # mmengine's error does not name the file
        raise SyntaxError(
            f'expected a config in Python in {path}, got {error.msg} in line '
            f'{error.lineno}; correct it there'
        ) from error
    _drop_scope(cfg)
    options = options or {}
    check_names(cfg)
    check_types(cfg)
    check_options(cfg, options)
    try:
        cfg.merge_from_dict(options)
    except (KeyError, TypeError) as error:
        wrong = [key for key in options if not _can_merge(cfg, key)]
        raise ValueError(
            f'expected --cfg-options that fit {path}, got '
            f'{", ".join(wrong or options)}: {error.args[0][:300]}; correct '
            'the keys'
        ) from error
    if any(key.startswith('custom_imports') for key in options):
        # Config.fromfile has imported those of the file.
        import_modules_from_strings(**cfg.custom_imports)
    for name in [*cfg]:
        if isinstance(cfg[name], (str, dict, list, tuple)):
            cfg[name] = expand_home(cfg[name])
    check_values(cfg)
    check_schedules(cfg)
    _remove_disabled_hooks(cfg)
    return cfg


def read_distillation(path: str, options: dict) -> Config:
    """Read the config of a distillation, as :func:`read_config`.

    Raises:
        SystemExit: The config has no teacher.
    """
    cfg = read_config(path, options)
    if 'teacher' not in cfg.get('model', {}):
        raise SystemExit(
            f'error: expected the config of a distillation, got {path} '
            'without model.teacher'
        )
    return cfg


def enable_safe_loading() -> None:
    """Make every loader of mmengine refuse checkpoints that would run code.

    Its other loaders call ``torch.load``, which reads the environment
    variable that is set here.
    """
    CheckpointLoader.register_scheme(ADDRESSES, load_from_address, force=True)
    os.environ[FORCED] = '1'
    if os.environ.pop(FORBIDDEN, None):  # torch refuses both
        print_log(
            f'ignored {FORBIDDEN}: checkpoints of mmengine are read safely '
            'without it',
            logger='current',
            level=logging.WARNING,
        )


def _drop_scope(value: Any) -> None:
    """Remove the scope that mmengine adds to a base ``repfusion_mm::``.

    Types in the configs of this package name their scope. Those in a child
    config are of ``default_scope``, as with a base that is given by its path.
    """
    items: Iterable = ()
    if isinstance(value, (dict, Config)):
        items = [*value.values()]
        own = value.get('_scope_') == 'repfusion_mm'
        if own and value.get('type') not in registered_names():
            del value['_scope_']
    elif isinstance(value, (list, tuple)):
        items = value
    for item in items:
        _drop_scope(item)


def _can_merge(cfg: Config, key: str) -> bool:
    try:
        cfg.merge_from_dict({key: None})
    except (KeyError, TypeError):
        return False
    return True


def _remove_disabled_hooks(cfg: Config) -> None:
    """Remove the hooks in ``default_hooks`` that are set to None.

    mmengine does so for its own hooks, and fails on None for others.
    """
    hooks = cfg.get('default_hooks') or {}
    for key in [*hooks]:
        if hooks[key] is None and key not in DEFAULT_HOOKS:
            hooks.pop(key)


def _use_cpu_processes(cfg: Config) -> None:
    """Run distributed processes without GPUs, which mmengine requires."""
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')
    wrapper = dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        # If model_wrapper_cfg is set, mmengine ignores the top-level key.
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    cfg.setdefault('model_wrapper_cfg', wrapper)
