"""Train from a config: a teacher, a distillation, or a finetuning."""

import argparse
from pathlib import Path
from typing import List, Optional

import torch
from mmengine.config import Config
from mmengine.runner import Runner

from repfusion_mm.cli.config import load_config, make_parser


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
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
    return parser.parse_args(argv)


def merge_args(cfg: Config, args: argparse.Namespace) -> None:
    """Merge the options of training into the config."""
    for name in ('model', 'optim_wrapper', 'train_dataloader', 'train_cfg'):
        if not isinstance(cfg.get(name), dict):
            raise SystemExit(
                f'expected {name}=dict(...) in {args.config}, got '
                f'{cfg.get(name)}; add it, as the configs of configs/ have it'
            )
    if args.amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    uses_amp = cfg.optim_wrapper.get('type') == 'AmpOptimWrapper'
    if uses_amp and not torch.cuda.is_available():
        raise SystemExit(
            'expected a GPU for mixed precision, got none; on a CPU leave '
            '--amp out, or add --cfg-options optim_wrapper.type=OptimWrapper '
            '(the teacher chooses its own type in any case)'
        )
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    if cfg.get('resume') and not cfg.get('load_from'):
        cfg.load_from = latest_checkpoint(cfg.work_dir)
    if args.auto_scale_lr:
        if 'auto_scale_lr' not in cfg:
            raise SystemExit(
                'expected auto_scale_lr=dict(base_batch_size=...) in '
                f'{args.config} for --auto-scale-lr, got none'
            )
        cfg.auto_scale_lr.enable = True


def latest_checkpoint(work_dir: str) -> Optional[str]:
    """Return the checkpoint to go on from; None where there is none.

    mmengine writes its whole path into last_checkpoint. A work directory that
    was copied or moved goes on with its own.

    Raises:
        FileNotFoundError: What last_checkpoint names is not there.
    """
    pointer = Path(work_dir, 'last_checkpoint')
    if not pointer.is_file():
        return None
    named = pointer.read_text().strip()
    here = Path(work_dir, Path(named).name)
    if here.is_file():
        return str(here)
    of_another_run = Path(named).parent.joinpath('last_checkpoint').exists()
    if '://' in named or (Path(named).is_file() and not of_another_run):
        return named  # as by out_dir of the checkpoint hook
    raise FileNotFoundError(
        f'expected the checkpoint that {pointer} names, {named!r}, got no '
        f'such file in {work_dir}; give one: --resume CHECKPOINT'
    )


def build_runner(argv: Optional[List[str]] = None) -> Runner:
    """Build the runner of a command line."""
    args = parse_args(argv)
    cfg = load_config(args)
    merge_args(cfg, args)
    return Runner.from_cfg(cfg)
