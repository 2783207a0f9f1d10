"""Build the runner of the options of training."""

import argparse
from pathlib import Path
from typing import Optional, Tuple

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS, RUNNERS
from mmengine.runner import Runner

from repfusion_mm.cli.config import load_config
from repfusion_mm.cli.files import check_file, make_work_dir
from repfusion_mm.cli.validate_config import check_parts
from repfusion_mm.cli.validate_data import check_dataset
from repfusion_mm.engine.hooks import UnusedSettingsHook
from repfusion_mm.engine.optimizers import BFloat16OptimWrapper
from repfusion_mm.engine.utils import unwrap_model
from repfusion_mm.models.teachers.dtype import resolve_dtype
from repfusion_mm.utils.types import is_type, resolve_type


def make_runner(args: argparse.Namespace) -> Runner:
    """Build the runner of the options of training."""
    cfg = load_config(args)
    make_work_dir(cfg.work_dir)
    resume, load_from = merge_args(cfg, args)
    for name in ('train_dataloader', 'val_dataloader'):
        dataset = (cfg.get(name) or {}).get('dataset') or {}
        check_dataset(dataset, cfg.get('default_scope'))
    runner, was_kept = build_keeping_config(cfg, args.config)
    check_parts(cfg, unwrap_model(runner), args.cfg_options or {})
    if not any(isinstance(h, UnusedSettingsHook) for h in runner.hooks):
        runner.register_hook(UnusedSettingsHook())
    if was_kept:
        runner.register_hook(DumpConfigHook())
    # Not in the config, so that the one in the work directory starts a run.
    runner._resume, runner._load_from = resume, load_from
    return runner


def build_keeping_config(cfg: Config, config: str) -> Tuple[Runner, bool]:
    """Build a runner that does not replace the config in its work directory.

    Args:
        cfg: The config of the runner.
        config: Path of its file.

    Returns:
        The runner, and whether this process kept the config of an earlier
        run.
    """
    dumped = Path(cfg.work_dir, Path(config).name)
    earlier = dumped.read_bytes() if dumped.is_file() else None
    is_default = 'runner_type' not in cfg
    runner = Runner.from_cfg(cfg) if is_default else RUNNERS.build(cfg)
    is_kept = earlier is not None and is_main_process()
    if earlier is not None and is_kept:
        dumped.write_bytes(earlier)
    return runner, is_kept


class DumpConfigHook(Hook):
    """Dump the config when nothing has refused the run.

    mmengine replaces the config of an earlier run in the work directory before
    a checkpoint is loaded and the settings are checked.
    """

    priority = 'LOWEST'

    def before_train(self, runner) -> None:
        """Write the config into the work directory."""
        runner.dump_config()


def merge_args(
    cfg: Config, args: argparse.Namespace
) -> Tuple[bool, Optional[str]]:
    """Merge the options of training into the config.

    Returns:
        Whether to resume, and the checkpoint to resume from or to load.

    Raises:
        SystemExit: A setting is missing, or the processor has no mixed
            precision.
        FileNotFoundError: The checkpoint to resume from does not exist.
    """
    for name in ('model', 'optim_wrapper', 'train_dataloader', 'train_cfg'):
        if cfg.get(name) is None:
            raise SystemExit(
                f'expected {name}=dict(...) in {args.config}, got '
                f'{cfg.get(name)}; add it, as in the configs in configs/'
            )
    if args.amp:
        use_amp(cfg)
    if _uses(cfg, AmpOptimWrapper) and not torch.cuda.is_available():
        raise SystemExit(
            f'expected a GPU for AmpOptimWrapper in {args.config}, got none; '
            'add --cfg-options optim_wrapper.type=OptimWrapper, or '
            'optim_wrapper.type=repfusion_mm.BFloat16OptimWrapper (without '
            'loss_scale and dtype)'
        )
    resume, load_from = bool(cfg.get('resume')), cfg.get('load_from')
    if resume and isinstance(cfg.resume, str):  # as FlexibleRunner accepts
        load_from = cfg.resume
    if args.resume not in (None, 'auto'):
        resume, load_from = True, args.resume
    elif args.resume == 'auto' or (resume and not load_from):
        latest = latest_checkpoint(cfg.work_dir)
        if latest is not None:
            resume, load_from = True, latest
        else:
            print(
                f'no checkpoint in {cfg.work_dir} to resume from: '
                f'{f"loading {load_from}" if load_from else "a new run"}'
            )
    if load_from:
        check_file(load_from, 'a checkpoint')
    if args.auto_scale_lr:
        if not isinstance(cfg.get('auto_scale_lr'), dict):
            raise SystemExit(
                'expected auto_scale_lr=dict(base_batch_size=...) in '
                f'{args.config} for --auto-scale-lr, got none; add it'
            )
        cfg.auto_scale_lr.enable = True
    return resume, load_from


def _uses(cfg: Config, kind: type) -> bool:
    scope = cfg.get('default_scope')
    return is_type(cfg.optim_wrapper, kind, OPTIM_WRAPPERS, scope)


def use_amp(cfg: Config) -> None:
    """Train with mixed precision, unless the config already does.

    Raises:
        SystemExit: The config has another wrapper, or settings that only a
            GPU has, or the processor has neither bfloat16 nor float16.
    """
    wrapper = cfg.optim_wrapper
    if _uses(cfg, AmpOptimWrapper) or _uses(cfg, BFloat16OptimWrapper):
        return
    found = resolve_type(wrapper, OPTIM_WRAPPERS, cfg.get('default_scope'))
    if 'type' in wrapper and found is not OptimWrapper:
        raise SystemExit(
            'expected optim_wrapper.type=OptimWrapper for --amp, got '
            f'{wrapper["type"]}, which it would replace; leave --amp out'
        )
    dtype = resolve_dtype('auto', torch.device(get_device()))
    # Only mmengine's wrapper has these settings.
    own = sorted({'loss_scale', 'dtype'} & set(wrapper))
    if dtype == torch.bfloat16 and not own:
        wrapper.type = 'repfusion_mm.BFloat16OptimWrapper'
    elif torch.cuda.is_available():
        wrapper.type = 'AmpOptimWrapper'
        wrapper.setdefault('loss_scale', 'dynamic')
    else:
        raise SystemExit(
            'expected a GPU, or a CPU with AVX512-BF16 or AMX, for --amp, got '
            'another processor; leave --amp out'
            if dtype != torch.bfloat16
            else 'expected neither loss_scale nor dtype in optim_wrapper for '
            f'--amp on a CPU, got {own}; remove them, or leave --amp out'
        )


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
    named = pointer.read_text(encoding='utf-8').strip()
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
