"""What several hooks share."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import EMAHook
from mmengine.model import is_model_wrapper
from mmengine.runner import find_latest_checkpoint


def unwrap_model(runner) -> Any:
    """Return the runner's model without its distributed wrapper."""
    model = runner.model
    return model.module if is_model_wrapper(model) else model


def averaged_model(runner) -> Any:
    """Return the EMA model if the run keeps one, else the model."""
    for hook in runner.hooks:
        if isinstance(hook, EMAHook):
            return hook.ema_model.module
    return unwrap_model(runner)


def last_checkpoint(runner) -> str:
    """Return the path of the checkpoint to resume from, or ``'none'``."""
    return find_latest_checkpoint(runner.work_dir) or 'none'


def check_interval(interval: int, hook: str) -> None:
    """Refuse an interval of the default hook ``hook`` that is less than 1."""
    if interval < 1:
        raise ValueError(
            f'expected an interval of 1 or more, got {interval}; correct '
            f'default_hooks.{hook}.interval'
        )


def check_single(runner, kind: type) -> None:
    """Refuse two hooks of a class whose work must be done once."""
    hooks = [hook for hook in runner.hooks if isinstance(hook, kind)]
    if len(hooks) > 1:
        names = ', '.join(type(hook).__name__ for hook in hooks)
        raise ValueError(
            f'expected one {kind.__name__}, got {len(hooks)} ({names}); '
            'keep one of them in default_hooks and custom_hooks'
        )


def select_prefix(state_dict: dict, prefix: str) -> dict:
    """Return the entries whose keys start with a prefix, without it."""
    return {
        key[len(prefix) :]: value
        for key, value in state_dict.items()
        if key.startswith(prefix)
    }
