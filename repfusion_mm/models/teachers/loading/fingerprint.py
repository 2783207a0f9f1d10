"""Hashes of weights and configs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Iterable, Mapping

import torch
import torch.nn as nn

#: Bytes of a block of a large file, and the number of blocks.
BLOCK, NUM_BLOCKS = 64 << 10, 64
#: Values of a large tensor that are read for a sampled hash.
NUM_VALUES = 4096


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


def hash_samples(module: nn.Module) -> str:
    """Return the SHA-256 of names, shapes and sampled values of a state.

    Of tensors of more than 4,096 values, that many are read, evenly spread:
    weights may have 10 GB, and training changes all of them.
    """
    samples = {}
    for name, value in module.state_dict().items():
        size = value.numel()
        count = min(size, NUM_VALUES)
        indices = torch.arange(count, device=value.device) * (size - 1)
        indices = indices // max(count - 1, 1)
        # Does not copy a tensor that is not contiguous.
        samples[f'{name} {tuple(value.shape)}'] = value.take(indices)
    return hash_tensors(samples)


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


def hash_files(files: Iterable[Path]) -> str:
    """Return the SHA-256 of the names, sizes and contents of files.

    Of files above 4 MiB, 64 blocks of 64 KiB are read that are spread over
    the file: the weights of a text encoder may have 10 GB, and training it
    changes all of them.
    """
    digest = hashlib.sha256()
    for path in sorted(files):
        size = path.stat().st_size
        digest.update(f'{path.parent.name}/{path.name} {size} '.encode())
        last = max(size - BLOCK, 0)
        starts = [*range(0, size, BLOCK)]
        if len(starts) > NUM_BLOCKS:
            starts = [i * last // (NUM_BLOCKS - 1) for i in range(NUM_BLOCKS)]
        with path.open('rb') as file:
            for start in starts:
                file.seek(start)
                digest.update(file.read(BLOCK))
    return digest.hexdigest()
