"""Options, config and processes of a command line."""

import argparse
import os
import os.path as osp
from pathlib import Path
from typing import Sequence

import torch
from mmengine.config import Config, DictAction
from mmengine.runner import CheckpointLoader

import repfusion_mm  # noqa: F401  # applies the workarounds
from repfusion_mm.cli.validate_config import (
    check_names,
    check_options,
    check_values,
)
from repfusion_mm.engine.checkpoint.io import load_from_address
from repfusion_mm.engine.checkpoint.safe_pickle import FORCED
from repfusion_mm.utils.malloc import keep_freed_memory


class OptionsAction(DictAction):
    """Parse ``key=value`` options, and refuse options of another form."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Sequence[str],
        option_string: str = '',
    ) -> None:
        """Merge the options into the namespace."""
        for value in values:
            if '=' not in value:
                parser.error(
                    f'expected key=value after {option_string}, got {value!r}'
                )
        super().__call__(parser, namespace, values, option_string)


def make_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that all tools have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='path of the config')
    parser.add_argument(
        '--work-dir', help='folder for logs, checkpoints and exported weights'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=OptionsAction,
        help='override settings of the config: key=value ..., lists as '
        'key="[a,b]" without spaces',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='launcher that started several processes',
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    return parser


def load_config(args: argparse.Namespace) -> Config:
    """Read a config, merge the common options into it, and validate it.

    From then on, the process loads checkpoints safely.

    Raises:
        FileNotFoundError: There is no such file.
        SyntaxError: The file is not valid Python.
        ValueError: A name or a value would be ignored or cannot be used.
    """
    enable_safe_loading()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = _read_config(args.config)
    check_names(cfg)
    options = args.cfg_options or {}
    check_options(cfg, options)
    cfg.launcher = args.launcher
    try:
        cfg.merge_from_dict(options)
    except (KeyError, TypeError) as error:
        raise ValueError(
            f'expected --cfg-options that fit {args.config}, got '
            f'{", ".join(options)}: {error.args[0][:300]}; correct the keys'
        ) from error
    check_values(cfg)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        name = osp.splitext(osp.basename(args.config))[0]
        cfg.work_dir = osp.join('work_dirs', name)
    if not torch.cuda.is_available():
        keep_freed_memory()
        if args.launcher == 'pytorch':
            _use_cpu_processes(cfg)
    return cfg


def enable_safe_loading() -> None:
    """Make every loader of mmengine refuse checkpoints that would run code.

    Local files and URLs are read by :func:`load_from_address`. The other
    loaders of mmengine call ``torch.load``, which obeys the environment
    variable.
    """
    for prefix in ('', 'http://', 'https://'):
        CheckpointLoader.register_scheme(prefix, load_from_address, force=True)
    os.environ[FORCED] = '1'


def check_checkpoint(path: str) -> None:
    """Refuse the path of a checkpoint that is not a file.

    Raises:
        FileNotFoundError: It is neither a file nor a URL.
    """
    if '://' not in path and not Path(path).expanduser().is_file():
        raise FileNotFoundError(
            f'expected the path of a checkpoint, got {path!r}, which is not '
            'a file; correct the path'
        )


def make_work_dir(path: str) -> None:
    """Create a work directory.

    Raises:
        OSError: It cannot be created.
    """
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise OSError(
            error.errno,
            f'expected a work directory that can be created, got {path!r} '
            f'({error.strerror}); choose another --work-dir',
        ) from error


def _read_config(path: str) -> Config:
    if not Path(path).is_file():
        raise FileNotFoundError(
            f'expected a config, got {path!r}, which is not a file; correct '
            'the path'
        )
    try:
        return Config.fromfile(path)
    except SyntaxError as error:  # mmengine's error does not name the file
        raise SyntaxError(
            f'expected a config in Python in {path}, got {error.msg} in line '
            f'{error.lineno}; correct it there'
        ) from error


def _use_cpu_processes(cfg: Config) -> None:
    """Run distributed processes without GPUs, which mmengine requires."""
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
