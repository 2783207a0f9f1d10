"""Read checkpoints safely, and say where they do not fit."""

from __future__ import annotations

import fnmatch
import os.path as osp
from typing import Dict, List, Optional, Sequence, Tuple

import torch
import torch.nn as nn
from mmengine.fileio import get_local_path
from mmengine.runner import find_latest_checkpoint

from repfusion_mm.engine.checkpoint import safe_pickle
from repfusion_mm.utils.compat import READS_SAFELY

StateDict = Dict[str, torch.Tensor]


def strides_of(module: nn.Module) -> Dict[str, list]:
    """Return the strides of all convolutions, by name, the stem's first."""
    return {
        name: list(child.stride)
        for name, child in module.named_modules()
        if isinstance(child, nn.Conv2d)
    }


def compare_strides(distilled: Dict[str, list], module: nn.Module) -> tuple:
    """Compare the strides of a student and of a module that gets its weights.

    Later stages may well differ, as in dilated segmentation networks.

    Returns:
        Faults of the stem, and the names of other convolutions that differ.
    """
    here = strides_of(module)
    differ = [k for k, v in here.items() if distilled.get(k, v) != v]
    stem = next(iter(here), None)
    if stem not in differ:
        return [], differ
    fault = (
        f'{stem}: distilled with stride {distilled[stem]}, got {here[stem]}'
    )
    return [fault], differ[1:]


def find_incompatible_keys(
    source: Dict[str, torch.Tensor],
    target: Dict[str, torch.Tensor],
    allow_missing: Sequence[str] = (),
    allow_unused: Sequence[str] = (),
) -> List[str]:
    """Say where ``source`` and ``target`` do not fit each other.

    Args:
        source: State dict of a checkpoint.
        target: State dict of a module.
        allow_missing: Patterns of names that may be missing in ``source``.
        allow_unused: Patterns of names that may be missing in ``target``.
    """
    faults = []
    for key, value in target.items():
        if key not in source:
            if not _matches(key, allow_missing):
                faults.append(f'{key}: not in the checkpoint')
        elif not torch.is_tensor(source[key]):
            faults.append(f'{key}: not a tensor')
        elif source[key].shape != value.shape:
            faults.append(
                f'{key}: expected {tuple(value.shape)}, got '
                f'{tuple(source[key].shape)}'
            )
    faults += [
        f'{key}: in the checkpoint alone'
        for key in source
        if key not in target and not _matches(key, allow_unused)
    ]
    return faults


def _matches(key: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatch(key, pattern) for pattern in patterns)


def read_checkpoint(checkpoint: str, hint: str) -> Tuple[StateDict, dict]:
    """Read the weights of a checkpoint without running code from it.

    Args:
        checkpoint: A path, or any address that ``mmengine.fileio`` reads.
        hint: What to do where there is no such file, for the error.

    Returns:
        The weights, and what ``meta`` holds beside them.

    Raises:
        ValueError: ``checkpoint`` is empty, or not a checkpoint.
        FileNotFoundError: There is no such file.
    """
    if not checkpoint:
        raise ValueError(
            f'expected the path of a checkpoint, got {checkpoint!r}; {hint}'
        )
    try:
        content = load_from_address(checkpoint)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise FileNotFoundError(
            f'expected a checkpoint at {checkpoint!r}, got no such file; '
            + hint
        ) from error
    meta = {}
    if isinstance(content, dict) and 'state_dict' in content:
        meta = content.get('meta') or {}
        content = content['state_dict']
    if not isinstance(content, dict) or not content:
        raise ValueError(
            f'expected a state dict in {checkpoint!r}, got '
            f'{type(content).__name__}'
        )
    others = [k for k, v in content.items() if not torch.is_tensor(v)]
    if others:
        raise ValueError(
            f'expected a state dict in {checkpoint!r}, got a dict with '
            f'{others[:5]}, which are no tensors; save the weights alone, '
            'or as its "state_dict"'
        )
    return content, meta


def load_from_local(
    path: str, map_location: str = 'cpu', name: Optional[str] = None
) -> object:
    """Read a local file of ``torch.save`` without running code from it.

    Args:
        path: The file.
        map_location: Where its tensors go, as in ``torch.load``.
        name: What the error calls it; ``path`` by default.

    Raises:
        FileNotFoundError, IsADirectoryError: There is no such file.
        ValueError: It is damaged, or holds more than weights and logs.
    """
    try:
        file = osp.expanduser(path)
        if READS_SAFELY:
            return torch.load(
                file, map_location=map_location, weights_only=True
            )
        return safe_pickle.load_file(file, map_location)
    except (FileNotFoundError, IsADirectoryError):
        raise
    except Exception as error:
        raise ValueError(
            f'expected a checkpoint of weights at {str(name or path)!r}, got '
            f'a file that cannot be read safely ({_reason(error)}): it is '
            'damaged, or holds more than weights'
        ) from error


def load_from_address(filename: str, map_location: str = 'cpu') -> object:
    """Read what is at any address that ``mmengine.fileio`` reads.

    It is fetched first, and then read and refused as by
    :func:`load_from_local`.

    Raises:
        ValueError: No backend of mmengine reads such addresses.
    """
    try:
        with get_local_path(filename) as path:
            return load_from_local(path, map_location, name=filename)
    except KeyError as error:
        raise ValueError(
            f'expected the path of a checkpoint, or an address that '
            f'mmengine.fileio reads, got {filename!r}; give its path'
        ) from error


def name_of_loaded(runner) -> Optional[str]:
    """Return the path of the checkpoint that a runner loads.

    With ``resume=True`` alone it is the latest one in its work directory.
    """
    return runner._load_from or find_latest_checkpoint(runner.work_dir)


def _reason(error: Exception) -> str:
    """Keep of torch's page of advice what is wrong."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [i for i in lines if 'WeightsUnpickler error' in i or 'GLOBAL' in i]
    said = told or [i for i in lines if i] or [type(error).__name__]
    return said[-1][:200]


def shorten(faults: List[str], limit: int = 10) -> List[str]:
    """Keep the first faults, and count the others."""
    rest = len(faults) - limit
    return faults[:limit] + ([f'and {rest} more'] if rest > 0 else [])
