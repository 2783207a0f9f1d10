"""Train from a config: a teacher, a distillation, or a finetuning."""

import argparse
import os
import os.path as osp
from typing import List, Optional

import torch
from mmengine.config import Config, DictAction
from mmengine.runner import Runner

import repfusion_mm  # noqa: F401


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='path of the config')
    parser.add_argument('--work-dir', help='where to write logs and models')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='go on from this checkpoint, or, without a value, from the '
        'latest one in the work directory',
    )
    parser.add_argument(
        '--amp', action='store_true', help='train with mixed precision (GPU)'
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the total batch size',
    )
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
    args = parser.parse_args(argv)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def load_config(args: argparse.Namespace) -> Config:
    """Read the config and merge the command line into it."""
    cfg = Config.fromfile(args.config)
    cfg.launcher = args.launcher
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        name = osp.splitext(osp.basename(args.config))[0]
        cfg.work_dir = osp.join('work_dirs', name)
    if args.amp:
        if not torch.cuda.is_available():
            raise SystemExit(
                'expected a GPU for --amp, got none; on a CPU leave --amp '
                'out (model.teacher.dtype=bfloat16 speeds up the teacher)'
            )
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    if args.auto_scale_lr:
        if 'auto_scale_lr' not in cfg:
            raise SystemExit(
                'expected auto_scale_lr=dict(base_batch_size=...) in '
                f'{args.config} for --auto-scale-lr, got none'
            )
        cfg.auto_scale_lr.enable = True
    return cfg


def use_cpu_processes(cfg: Config) -> None:
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


def build_runner(argv: Optional[List[str]] = None) -> Runner:
    """Build the runner of a command line."""
    args = parse_args(argv)
    cfg = load_config(args)
    if args.launcher == 'pytorch' and not torch.cuda.is_available():
        use_cpu_processes(cfg)
    return Runner.from_cfg(cfg)


if __name__ == '__main__':
    build_runner().train()
