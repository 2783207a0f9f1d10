"""What train.py and test.py share: options, config, processes."""

import argparse
import os
import os.path as osp

import torch
from mmengine.config import Config, DictAction
from mmengine.runner import CheckpointLoader

import repfusion_mm  # noqa: F401  # heals the stack before it is imported
from repfusion_mm.cli.validate_config import (
    check_names,
    check_options,
    check_values,
)
from repfusion_mm.engine.checkpoint.io import load_from_address
from repfusion_mm.engine.checkpoint.safe_pickle import FORCED
from repfusion_mm.utils.malloc import keep_freed_memory

#: What every run of these tools has.
HOOKS = (
    'StrictLoadHook',
    'EnvInfoHook',
    'ExactResumeHook',
    'FiniteLossHook',
    'PreemptionHook',
)


def make_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that all tools have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='path of the config')
    parser.add_argument('--work-dir', help='where to write logs and models')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='override settings of the config: key=value ..., lists as '
        'key="[a,b]" without spaces',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='how several processes were started',
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    return parser


def load_config(args: argparse.Namespace) -> Config:
    """Read the config, and merge the options that all tools have into it."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    try:
        cfg = Config.fromfile(args.config)
    except SyntaxError as error:  # mmengine does not say of which file
        raise SyntaxError(
            f'expected a config in Python in {args.config}, got '
            f'{error.msg} in line {error.lineno}; correct it there'
        ) from error
    check_names(cfg)
    check_options(cfg, args.cfg_options or ())
    cfg.launcher = args.launcher
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    check_values(cfg)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        name = osp.splitext(osp.basename(args.config))[0]
        cfg.work_dir = osp.join('work_dirs', name)
    ours = [dict(type=f'repfusion_mm.{name}') for name in HOOKS]
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), *ours]
    _write_safely(cfg)
    _read_safely()
    if not torch.cuda.is_available():
        keep_freed_memory()
        if args.launcher == 'pytorch':
            _use_cpu_processes(cfg)
    return cfg


def _read_safely() -> None:
    """Let no checkpoint run code, wherever it comes from."""
    for prefix in ('', 'http://', 'https://'):
        CheckpointLoader.register_scheme(prefix, load_from_address, force=True)
    # For mmengine's other loaders, which call torch.load themselves.
    os.environ[FORCED] = '1'


def _write_safely(cfg: Config) -> None:
    """Put our checkpoint hook in the place of mmengine's."""
    hooks = cfg.get('default_hooks') or {}
    hook = hooks.get('checkpoint', dict(type='CheckpointHook'))
    if hook and hook['type'] in ('CheckpointHook', 'mmengine.CheckpointHook'):
        hook = dict(hook, type='repfusion_mm.SafeCheckpointHook')
        cfg.default_hooks = dict(hooks, checkpoint=hook)


def _use_cpu_processes(cfg: Config) -> None:
    """Let several processes run without GPUs, which mmengine asks for."""
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')
    cfg.setdefault(
        'model_wrapper_cfg',
        dict(
            type='MMDistributedDataParallel',
            device_ids=None,
            broadcast_buffers=False,
        ),
    )
