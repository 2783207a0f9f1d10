"""The 'Pretrained' initializer, strict and loud."""

from __future__ import annotations

import fnmatch
from typing import Dict, List, Optional, Sequence

import torch
import torch.nn as nn
from mmengine.fileio import get_local_path
from mmengine.logging import print_log
from mmengine.model.weight_init import update_init_info

from ..registry import WEIGHT_INITIALIZERS

#: Where a backbone lies in the checkpoints of distillers and task networks.
PREFIXES = ('', 'student.', 'backbone.')


@WEIGHT_INITIALIZERS.register_module(name='Pretrained')
class StrictPretrained:
    """Load a backbone wholly, or say why not.

    Use it as ``init_cfg=dict(type='Pretrained', _scope_='repfusion_mm',
    checkpoint=...)``. The name matters: mmengine runs ``Pretrained`` after all
    other initializers.

    Args:
        checkpoint: An exported student, or a training checkpoint of a
            distiller (its student is found, in the averaged weights where it
            kept an average) or of a task network (its backbone is found). A
            path, or any address that ``mmengine.fileio`` reads.
        prefix: Where in the checkpoint the backbone lies, if not found by
            itself, e.g. ``'backbone.'``.
        allow_missing: Names, with ``*``, of tensors of the backbone that the
            checkpoint need not hold.

    Raises:
        ValueError: No checkpoint is named, or it does not cover the backbone.
        FileNotFoundError: There is no such file.
    """

    def __init__(
        self,
        checkpoint: str,
        prefix: Optional[str] = None,
        allow_missing: Sequence[str] = (),
    ) -> None:
        self.checkpoint = checkpoint
        self.prefix = prefix
        self.allow_missing = tuple(allow_missing)

    def __call__(self, module: nn.Module) -> None:
        """Load the checkpoint into ``module``."""
        source = read_state_dict(self.checkpoint)
        target = module.state_dict()
        prefix = self.prefix
        if prefix is None:
            prefix = _best_prefix(source, target)
        source = {
            key[len(prefix) :]: value
            for key, value in source.items()
            if key.startswith(prefix)
        }
        faults = find_faults(source, target, self.allow_missing)
        name = type(module).__name__
        if faults:
            raise ValueError(
                f'expected {self.checkpoint!r} to fill all {len(target)} '
                f'tensors of {name}, got {len(target) - len(faults)}:\n  '
                + '\n  '.join(shorten(faults))
                + f'\nBuild {name} with the arguments of the distilled '
                'student (stem, depth, width; mmseg.ResNetV1c must be '
                'distilled as mmseg.ResNetV1c), or name what may stay random '
                'in init_cfg.allow_missing'
            )
        loaded = {k: v for k, v in source.items() if k in target}
        module.load_state_dict(loaded, strict=False)
        unused = len(source) - len(loaded)
        print_log(
            f'loaded {len(loaded)}/{len(target)} tensors of {name} from '
            f'{self.checkpoint}'
            + (f' ({unused} others there are not used)' if unused else ''),
            logger='current',
        )
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=f'from {self.checkpoint}')


def find_faults(
    source: Dict[str, torch.Tensor],
    target: Dict[str, torch.Tensor],
    allow_missing: Sequence[str] = (),
) -> List[str]:
    """Say which tensors of ``target`` the ``source`` does not fill.

    Args:
        source: State dict of a checkpoint.
        target: State dict of a module.
        allow_missing: Patterns of names that may be missing.
    """
    faults = []
    for key, value in target.items():
        if key not in source:
            if not any(fnmatch.fnmatch(key, p) for p in allow_missing):
                faults.append(f'{key}: not in the checkpoint')
        elif source[key].shape != value.shape:
            faults.append(
                f'{key}: expected {tuple(value.shape)}, got '
                f'{tuple(source[key].shape)}'
            )
    return faults


def read_state_dict(checkpoint: str) -> Dict[str, torch.Tensor]:
    """Read the weights of a checkpoint without running code from it.

    Raises:
        ValueError: ``checkpoint`` is empty, or not a checkpoint.
        FileNotFoundError: There is no such file.
    """
    if not checkpoint:
        raise ValueError(
            f'expected the path of a checkpoint, got {checkpoint!r}; add '
            '--cfg-options model.backbone.init_cfg.checkpoint=PATH, with the '
            'student.pth that distillation wrote'
        )
    try:
        with get_local_path(checkpoint) as path:
            content = torch.load(path, map_location='cpu', weights_only=True)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise FileNotFoundError(
            f'expected a checkpoint at {checkpoint!r}, got no such file; '
            'distillation writes student.pth into its work directory'
        ) from error
    except Exception as error:
        raise ValueError(
            f'expected a checkpoint of weights at {checkpoint!r}, got a file '
            f'that cannot be read safely: {error}'
        ) from error
    if isinstance(content, dict):
        content = content.get('state_dict', content)
    if not isinstance(content, dict) or not any(
        torch.is_tensor(v) for v in content.values()
    ):
        raise ValueError(
            f'expected a state dict in {checkpoint!r}, got '
            f'{type(content).__name__} without tensors'
        )
    return content


def _best_prefix(source: Dict, target: Dict) -> str:
    return max(
        PREFIXES,
        key=lambda prefix: sum(prefix + key in source for key in target),
    )


def shorten(faults: List[str], limit: int = 10) -> List[str]:
    """Keep the first faults, and count the others."""
    rest = len(faults) - limit
    return faults[:limit] + ([f'and {rest} more'] if rest > 0 else [])
