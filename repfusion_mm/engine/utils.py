"""What several hooks share."""

from __future__ import annotations

import copy
import os.path as osp
from itertools import combinations
from pathlib import Path
from typing import Any, Dict, List, Tuple

import torch.nn as nn
from mmengine.dist import is_main_process
from mmengine.hooks import (
    CheckpointHook,
    EMAHook,
    Hook,
    ParamSchedulerHook,
    RuntimeInfoHook,
)
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import find_latest_checkpoint

from repfusion_mm.utils.types import resolve_type

#: mmengine's hooks whose work must be done once.
SINGLE = (EMAHook, ParamSchedulerHook, RuntimeInfoHook)


def unwrap_model(runner) -> Any:
    """Return the runner's model without its wrappers.

    These are that of distributed training, and that of ``--tta``.
    """
    model = runner.model
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def copy_to_cpu(module: nn.Module) -> Any:
    """Return a copy of a module on the CPU, without one on its device."""
    memo: Dict[int, Any] = {}
    for parameter in module.parameters():
        value = parameter.detach().to('cpu', copy=True)
        memo[id(parameter)] = nn.Parameter(value, parameter.requires_grad)
    for buffer in module.buffers():
        memo[id(buffer)] = buffer.detach().to('cpu', copy=True)
    return copy.deepcopy(module, memo)


def averaged_model(runner) -> Any:
    """Return the EMA model if the run keeps one, else the model."""
    for hook in runner.hooks:
        if isinstance(hook, EMAHook):
            return hook.ema_model.module
    return unwrap_model(runner)


def last_checkpoint(runner) -> str:
    """Return the path of the checkpoint to resume from, or ``'none'``."""
    return find_latest_checkpoint(runner.work_dir) or 'none'


def log_export(runner, what: str, filename: str) -> None:
    """Log where a run has written a student or a model.

    Args:
        runner: The runner at the end of the run.
        what: What was written.
        filename: Its name in the work directory.
    """
    path = Path(runner.work_dir, filename)
    if path.exists() and is_main_process():
        runner.logger.info(f'the {what} is in {path}')


def check_export(runner, filename: str) -> None:
    """Log a warning if a run writes no checkpoint, and so no ``filename``.

    Raises:
        ValueError: ``filename`` is not a name within the work directory.
    """
    path = Path(filename)
    if not path.name or path.is_absolute() or '..' in path.parts:
        raise ValueError(
            'expected the name of a file or folder in the work directory in '
            f'default_hooks, got filename={filename!r}; correct it'
        )
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook):
            length = runner.max_epochs if hook.by_epoch else runner.max_iters
            first = hook.save_begin or hook.interval
            if (
                hook.save_last
                or (hook.save_best and runner.val_loop is not None)
                or (hook.interval > 0 and first <= length)
            ):
                return
    runner.logger.warning(
        f'{filename} will not be written: it is written with each checkpoint, '
        'and this run has none; set default_hooks.checkpoint.save_last=True, '
        'or an interval within the length of the run'
    )


def attach(runner, name: str) -> None:
    """Tell the distiller of a run that the hook ``name`` is there.

    Raises:
        ValueError: The model is not a distiller.
    """
    model = unwrap_model(runner)
    if not hasattr(model, 'attached_hooks'):
        raise ValueError(
            f'expected a RepFusion as the model for {name}, got '
            f'{type(model).__name__}; remove the hook: other trainings '
            'inherit _base_/runtime/training_hooks.py instead of '
            'distill_hooks.py'
        )
    model.attached_hooks.add(name)


def check_single(runner, kind: type) -> None:
    """Refuse two hooks of a class whose work must be done once."""
    hooks = [hook for hook in runner.hooks if isinstance(hook, kind)]
    if len(hooks) > 1:
        names = ', '.join(type(hook).__name__ for hook in hooks)
        places = find_hooks(runner.cfg, kind)
        if places:
            names += f' in {" and ".join(places)}'
        raise ValueError(
            f'expected one {kind.__name__}, got {len(hooks)} with different '
            f'settings ({names}); keep one of them in default_hooks and '
            'custom_hooks'
        )


def find_hooks(cfg: dict, kind: type) -> Dict[str, Any]:
    """Return hooks of a class in a config, and their places."""
    return {
        place: hook
        for place, (hook, cls) in resolve_hooks(cfg).items()
        if issubclass(cls, kind)
    }


def resolve_hooks(cfg: dict) -> Dict[str, Tuple[Any, type]]:
    """Return the hooks in a config and their classes, by their places."""
    places = {
        f'default_hooks.{key}': hook
        for key, hook in (cfg.get('default_hooks') or {}).items()
    }
    for index, hook in enumerate(cfg.get('custom_hooks') or []):
        places[f'custom_hooks.{index}'] = hook
    scope = cfg.get('default_scope')
    found = {}
    for place, hook in places.items():
        cls = resolve_type(hook, HOOKS, scope) or type(hook)
        if isinstance(cls, type):
            found[place] = (hook, cls)
    return found


def use_hooks_once(runner) -> None:
    """Keep one of several hooks of the same class and settings.

    A config may name a hook in ``default_hooks`` and in ``custom_hooks``.
    mmengine would call both, and step schedules or average weights twice.

    Raises:
        ValueError: Two hooks that must be single have different settings, or
            two checkpoint hooks remove the files of each other.
    """
    kept: List[Hook] = []
    for hook in runner.hooks:
        if any(_is_equal(hook, other) for other in kept):
            print_log(
                f'{type(hook).__name__} is configured twice with the same '
                'settings: it is used once',
                logger='current',
            )
        else:
            kept.append(hook)
    if len(kept) < len(runner.hooks):
        # Not in place: the runner is iterating over the list.
        runner._hooks = kept
    for kind in SINGLE:
        check_single(runner, kind)
    check_checkpoints(runner)


def check_checkpoints(runner) -> None:
    """Refuse hooks that remove or compare the checkpoints of each other."""
    hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
    for pair in combinations(hooks, 2):
        names = ' and '.join(type(hook).__name__ for hook in pair)
        kept = [getattr(i, 'num_kept', i.max_keep_ckpts) for i in pair]
        files = {
            (osp.abspath(i.out_dir or runner.work_dir), i.filename_tmpl)
            for i in pair
        }
        steps = [(i.by_epoch, i.interval) for i in pair]
        if (
            len(files) == 1
            and max(kept) > 0
            and (kept[0] != kept[1] or steps[0] != steps[1])
            and all(hook.interval > 0 for hook in pair)
        ):
            file = osp.join(*files.pop())
            raise ValueError(
                f'expected one hook for {file}, got {names} with '
                f'max_keep_ckpts={kept[0]} and {kept[1]}, so that one removes '
                'checkpoints that the other keeps; configure one of them, in '
                'default_hooks.checkpoint (which replaces that of mmengine), '
                'or set another filename_tmpl'
            )
        best = [hook.save_best for hook in pair]
        if all(i and len(i) == 1 for i in best):
            raise ValueError(
                'expected one hook with save_best, got '
                f'{names}, whose best scores mmengine keeps in one place; '
                f'set default_hooks.checkpoint.save_best={best[0] + best[1]}'
            )


def _is_equal(hook: Hook, other: Hook) -> bool:
    try:
        return type(hook) is type(other) and bool(vars(hook) == vars(other))
    except (ValueError, RuntimeError):  # arrays or tensors
        return False


def select_prefix(state_dict: dict, prefix: str) -> dict:
    """Return the entries whose keys start with a prefix, without it."""
    return {
        key[len(prefix) :]: value
        for key, value in state_dict.items()
        if key.startswith(prefix)
    }
