"""What a teacher's features depend on, beside image and timestep."""

from __future__ import annotations

import hashlib
import json
from typing import Dict

import torch
import torch.nn as nn

from repfusion_mm.models.teachers.dtype import resolve_dtype


def fingerprint(teacher: nn.Module) -> Dict[str, object]:
    """Tell a teacher from every other whose features may differ.

    Weights are hashed after rounding to the type that the teacher computes
    in on its device: the same comes out before and after they were cast.

    Args:
        teacher: A teacher without class signal, on its device.

    Returns:
        Parts that can be read, compared and written as JSON.
    """
    device = next(teacher.parameters()).device
    dtype = resolve_dtype(teacher.dtype, device)
    return dict(
        weights=hash_weights(teacher.denoiser, dtype),
        denoiser=hash_config(teacher.denoiser),
        layers={k: list(v) for k, v in teacher.feature_shapes.items()},
        dtype=str(dtype).replace('torch.', ''),
        image_size=teacher.image_size,
        input_mode=teacher.input_mode,
        class_signal=teacher.class_signal.kind,
    )


def hash_weights(module: nn.Module, dtype: torch.dtype) -> str:
    """Return the SHA-256 of a module's state, its floats rounded to dtype."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        value = value.detach()
        if value.is_floating_point():
            value = value.to(dtype)
        digest.update(f'{name} {tuple(value.shape)}'.encode())
        flat = value.cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()


def hash_config(denoiser: nn.Module) -> str:
    """Return the SHA-256 of a denoiser's class and config.

    Entries that begin with an underscore are left out: they say from where it
    was loaded, and by which version.
    """
    config = dict(denoiser.config)
    kept = {k: v for k, v in config.items() if not k.startswith('_')}
    text = json.dumps(
        [type(denoiser).__name__, kept], sort_keys=True, default=str
    )
    return hashlib.sha256(text.encode()).hexdigest()
