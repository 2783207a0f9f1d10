"""Compare a checkpoint with the module that loads it."""

from __future__ import annotations

import fnmatch
from typing import Dict, List, Sequence, Tuple

import torch
import torch.nn as nn


def find_incompatible_keys(
    source: Dict[str, torch.Tensor],
    target: Dict[str, torch.Tensor],
    allow_missing: Sequence[str] = (),
    allow_unused: Sequence[str] = (),
) -> List[str]:
    """List the tensors that prevent ``source`` from filling ``target``.

    ``allow_missing`` and ``allow_unused`` are patterns of names that may be
    missing in ``source`` and in ``target``.
    """
    mismatches = []
    for key, value in target.items():
        if key not in source:
            if not _matches(key, allow_missing):
                mismatches.append(f'{key}: not in the checkpoint')
        elif not torch.is_tensor(source[key]):
            mismatches.append(f'{key}: not a tensor')
        elif source[key].shape != value.shape:
            mismatches.append(
                f'{key}: expected {tuple(value.shape)}, got '
                f'{tuple(source[key].shape)}'
            )
    mismatches += [
        f'{key}: only in the checkpoint'
        for key in source
        if key not in target and not _matches(key, allow_unused)
    ]
    return mismatches


def conv_strides(module: nn.Module) -> Dict[str, List[int]]:
    """Return the strides of all 2D convolutions by name, the stem's first."""
    return {
        name: list(child.stride)
        for name, child in module.named_modules()
        if isinstance(child, nn.Conv2d)
    }


def compare_strides(
    distilled: Dict[str, List[int]], module: nn.Module
) -> Tuple[List[str], List[str]]:
    """Compare a student's strides with those of the backbone that loads it.

    Returns:
        Error lines on the stem, and the names of other convolutions that
        differ, which they may, as in dilated segmentation networks.
    """
    strides = conv_strides(module)
    differ = [k for k, v in strides.items() if distilled.get(k, v) != v]
    stem = next(iter(strides), None)
    if stem is None or stem not in differ:
        return [], differ
    error = (
        f'{stem}: distilled with stride {distilled[stem]}, got {strides[stem]}'
    )
    return [error], differ[1:]


def describe_mismatches(
    file: str, module: nn.Module, mismatches: List[str], limit: int = 10
) -> str:
    """Return the text of an error with the first mismatches."""
    lines = mismatches[:limit]
    if len(mismatches) > limit:
        lines.append(f'and {len(mismatches) - limit} more')
    return (
        f'expected {file!r} to fit all {len(module.state_dict())} tensors of '
        f'{type(module).__name__}, got {len(mismatches)} mismatches:\n  '
        + '\n  '.join(lines)
    )


def _matches(key: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatch(key, pattern) for pattern in patterns)
