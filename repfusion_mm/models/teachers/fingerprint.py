"""Hashes of weights and configs."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Mapping

import torch
import torch.nn as nn


def hash_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of the names, shapes and values of tensors.

    The values are hashed in the dtype that they are stored in.
    """
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f'{name} {tuple(value.shape)}'.encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def hash_weights(module: nn.Module) -> str:
    """Return the SHA-256 of a module's state."""
    return hash_tensors(module.state_dict())


def hash_config(denoiser: Any) -> str:
    """Return the SHA-256 of a diffusers model's class and config.

    Entries that begin with an underscore are left out: they hold the folder
    that it was loaded from, and the version of diffusers that wrote it.
    """
    config = dict(denoiser.config)
    kept = {k: v for k, v in config.items() if not k.startswith('_')}
    text = json.dumps(
        [type(denoiser).__name__, kept], sort_keys=True, default=str
    )
    return hashlib.sha256(text.encode()).hexdigest()
