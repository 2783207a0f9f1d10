"""Build the runner of a training command line."""

import argparse
from pathlib import Path
from typing import List, Optional

import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from repfusion_mm.cli.config import (
    check_file,
    load_config,
    make_parser,
    make_work_dir,
)
from repfusion_mm.cli.validate_config import check_parts
from repfusion_mm.cli.validate_data import check_dataset
from repfusion_mm.engine.hooks import UnusedSettingsHook
from repfusion_mm.engine.utils import unwrap_model


def build_runner(argv: Optional[List[str]] = None) -> Runner:
    """Build the runner of a command line; None stands for ``sys.argv[1:]``."""
    args = parse_args(argv)
    cfg = load_config(args)
    make_work_dir(cfg.work_dir)
    merge_args(cfg, args)
    for name in ('train_dataloader', 'val_dataloader'):
        check_dataset((cfg.get(name) or {}).get('dataset') or {})
    is_default = 'runner_type' not in cfg
    runner = Runner.from_cfg(cfg) if is_default else RUNNERS.build(cfg)
    check_parts(unwrap_model(runner), args.cfg_options or {})
    if not any(isinstance(h, UnusedSettingsHook) for h in runner.hooks):
        runner.register_hook(UnusedSettingsHook())
    return runner


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Parse the options of training."""
    parser = make_parser(
        'Train from a config: a teacher, a distillation or a finetuning.'
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='resume from this checkpoint, or, without a value, from the '
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
    """Merge the options of training into the config.

    Raises:
        SystemExit: A setting, or a GPU for mixed precision, is missing.
        FileNotFoundError: The checkpoint to resume from does not exist.
    """
    for name in ('model', 'optim_wrapper', 'train_dataloader', 'train_cfg'):
        if not isinstance(cfg.get(name), dict):
            raise SystemExit(
                f'expected {name}=dict(...) in {args.config}, got '
                f'{cfg.get(name)}; add it, as in the configs in configs/'
            )
    if args.amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    uses_amp = cfg.optim_wrapper.get('type') == 'AmpOptimWrapper'
    if uses_amp and not torch.cuda.is_available():
        raise SystemExit(
            'expected a GPU for mixed precision, got none; on a CPU leave '
            '--amp out, or add --cfg-options optim_wrapper.type=OptimWrapper '
            '(the dtype of the teacher is a separate setting)'
        )
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    if cfg.get('resume') and not cfg.get('load_from'):
        cfg.load_from = latest_checkpoint(cfg.work_dir)
    if cfg.get('load_from'):
        check_file(cfg.load_from, 'a checkpoint')
    if args.auto_scale_lr:
        if 'auto_scale_lr' not in cfg:
            raise SystemExit(
                'expected auto_scale_lr=dict(base_batch_size=...) in '
                f'{args.config} for --auto-scale-lr, got none; add it'
            )
        cfg.auto_scale_lr.enable = True


def latest_checkpoint(work_dir: str) -> Optional[str]:
    """Return the checkpoint that ``--resume`` resumes from, or None.

    mmengine writes an absolute path to ``last_checkpoint``. In a work
    directory that was copied or moved, the checkpoint of the same name in
    this directory takes precedence.

    Raises:
        FileNotFoundError: ``last_checkpoint`` names a file that is missing.
    """
    pointer = Path(work_dir, 'last_checkpoint')
    if not pointer.is_file():
        return None
    named = pointer.read_text().strip()
    local = Path(work_dir, Path(named).name)
    if local.is_file():
        return str(local)
    of_another_run = Path(named).parent.joinpath('last_checkpoint').exists()
    if '://' in named or (Path(named).is_file() and not of_another_run):
        return named  # as with out_dir of the checkpoint hook
    raise FileNotFoundError(
        f'expected the checkpoint that {pointer} names, {named!r}, got no '
        f'such file in {work_dir}; name one: --resume CHECKPOINT'
    )
