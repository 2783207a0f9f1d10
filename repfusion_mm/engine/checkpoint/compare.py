"""Compare a checkpoint with the module that loads it."""

from __future__ import annotations

import copy
import fnmatch
from typing import Dict, List, Sequence, Tuple

import torch
import torch.nn as nn

#: Mismatches of values, which no loading hook resolves.
VALUES = ('values of', 'NaN or Inf', 'not a tensor')


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
        elif value.is_floating_point() and not source[key].is_floating_point():
            mismatches.append(
                f'{key}: {VALUES[0]} {source[key].dtype}, for {value.dtype}'
            )
        elif _is_finite(value) and not _is_finite(source[key]):
            mismatches.append(f'{key}: {VALUES[1]}')
    mismatches += [
        f'{key}: only in the checkpoint'
        for key in source
        if key not in target and not _matches(key, allow_unused)
    ]
    return mismatches


def compare_with_hooks(
    module: nn.Module, source: Dict[str, torch.Tensor], mismatches: List[str]
) -> Tuple[List[str], List[str]]:
    """Find out whether the ``load_state_dict`` hooks resolve the mismatches.

    Those of vision transformers resize position embeddings and rebuild
    buffers. The checkpoint is loaded into a copy of the module.

    Returns:
        The mismatches, and those that the hooks resolve: one list is empty.
    """
    if not mismatches:
        return [], []
    try:
        result = copy.deepcopy(module).load_state_dict(source, strict=False)
    except Exception:  # shapes that differ, or a hook that fails on them
        return mismatches, []
    remain = {*result.missing_keys, *result.unexpected_keys}
    for line in mismatches:
        key, _, reason = line.partition(': ')
        if key in remain or reason.startswith(VALUES):
            return mismatches, []
    return [], mismatches


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
    file: str, module: nn.Module, mismatches: List[str]
) -> str:
    """Return the text of an error with the first ten mismatches."""
    lines = mismatches[:10]
    if mismatches[10:]:
        lines.append(f'and {len(mismatches) - 10} more')
    return (
        f'expected {file!r} to fit all {len(module.state_dict())} tensors of '
        f'{type(module).__name__}, got {len(mismatches)} mismatches:\n  '
        + '\n  '.join(lines)
    )


def _is_finite(value: torch.Tensor) -> bool:
    return value.is_meta or bool(value.isfinite().all())


def _matches(key: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatch(key, pattern) for pattern in patterns)
