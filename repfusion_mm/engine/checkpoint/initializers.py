"""The 'Pretrained' initializer, strict and loud."""

from __future__ import annotations

from typing import Dict, Optional, Sequence

import torch.nn as nn
from mmengine.logging import print_log
from mmengine.model.weight_init import update_init_info

from repfusion_mm.engine.checkpoint.io import (
    compare_strides,
    find_incompatible_keys,
    read_checkpoint,
    shorten,
)
from repfusion_mm.registry import WEIGHT_INITIALIZERS

HINT = (
    'distillation writes student.pth into its work directory: name it in the '
    'init_cfg of the backbone, or on the command line by --cfg-options '
    'model.backbone.init_cfg.checkpoint=PATH (for BiSeNetV1 '
    'model.backbone.backbone_cfg.init_cfg.checkpoint=PATH)'
)
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
        allow_unused: Names, with ``*``, of tensors of the checkpoint that the
            backbone need not have: a deeper student is not this backbone.

    Raises:
        ValueError: No checkpoint is named, it does not cover the backbone, or
            the backbone does not use it up; or the stem has another stride
            than that of the student, which no shape tells.
        FileNotFoundError: There is no such file.
    """

    def __init__(
        self,
        checkpoint: str,
        prefix: Optional[str] = None,
        allow_missing: Sequence[str] = (),
        allow_unused: Sequence[str] = (),
    ) -> None:
        self.checkpoint = checkpoint
        self.prefix = prefix
        self.allow_missing = tuple(allow_missing)
        self.allow_unused = tuple(allow_unused)

    def __call__(self, module: nn.Module) -> None:
        """Load the checkpoint into ``module``."""
        source, meta = read_checkpoint(self.checkpoint, HINT)
        target = module.state_dict()
        prefix = self.prefix
        if prefix is None:
            prefix = _best_prefix(source, target)
        source = {
            key[len(prefix) :]: value
            for key, value in source.items()
            if key.startswith(prefix)
        }
        faults = find_incompatible_keys(
            source, target, self.allow_missing, self.allow_unused
        )
        stem, others = compare_strides(meta.get('strides', {}), module)
        faults += stem
        name = type(module).__name__
        if faults:
            raise ValueError(
                f'expected {self.checkpoint!r} to fit all {len(target)} '
                f'tensors of {name}, got {len(faults)} faults:\n  '
                + '\n  '.join(shorten(faults))
                + f'\nBuild {name} with the arguments of the distilled '
                f'student{_named(meta)} (stem, depth, width; '
                'mmseg.ResNetV1c must be distilled as mmseg.ResNetV1c), or '
                'name what may stay random in init_cfg.allow_missing, and '
                'what may be left over in init_cfg.allow_unused'
            )
        loaded = {k: v for k, v in source.items() if k in target}
        module.load_state_dict(loaded, strict=False)
        note = f' (other strides than distilled: {others})' if others else ''
        print_log(
            f'loaded {len(loaded)}/{len(target)} tensors of {name} from '
            f'{self.checkpoint}{note}',
            logger='current',
        )
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=f'from {self.checkpoint}')


def _named(meta: dict) -> str:
    """Say what was distilled, where an exported file tells."""
    return f', {meta["student"]}' if meta.get('student') else ''


def _best_prefix(source: Dict, target: Dict) -> str:
    return max(
        PREFIXES,
        key=lambda prefix: sum(prefix + key in source for key in target),
    )
