"""What several hooks share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mmengine.hooks import EMAHook
from mmengine.model import is_model_wrapper


def unwrap_model(runner) -> Any:
    """Return the runner's model without its distributed wrapper."""
    model = runner.model
    return model.module if is_model_wrapper(model) else model


def averaged_model(runner) -> Any:
    """Return the averaged model if the run keeps one, else the model."""
    for hook in runner.hooks:
        if isinstance(hook, EMAHook):
            return hook.ema_model.module
    return unwrap_model(runner)


def show_image(runner, name: str, image: np.ndarray) -> None:
    """Add an H x W x 3 uint8 RGB image to the runner's visualizer."""
    runner.visualizer.add_image(name, image, step=runner.iter + 1)


def last_checkpoint(runner) -> str:
    """Return the path of the checkpoint to resume from, or ``'none'``."""
    pointer = Path(runner.work_dir, 'last_checkpoint')
    return pointer.read_text() if pointer.exists() else 'none'


def check_single(runner, kind: type) -> None:
    """Refuse two hooks of a kind whose work must be done once.

    Args:
        runner: The runner with the hooks.
        kind: Class of the hook.

    Raises:
        ValueError: There are several.
    """
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
