"""A strict 'Pretrained' initializer."""

from __future__ import annotations

import logging
from typing import Dict, Optional, Sequence

import torch
import torch.nn as nn
from mmengine.logging import print_log
from mmengine.model.weight_init import update_init_info

from repfusion_mm.engine.checkpoint.behavior import find_changes
from repfusion_mm.engine.checkpoint.compare import (
    compare_strides,
    compare_with_hooks,
    describe_mismatches,
    find_incompatible_keys,
)
from repfusion_mm.engine.checkpoint.io import StateDict, read_checkpoint
from repfusion_mm.engine.utils import select_prefix
from repfusion_mm.registry import WEIGHT_INITIALIZERS

HINT = (
    'distillation writes student.pth into its work directory: name it in the '
    'init_cfg of the backbone, or on the command line by --cfg-options '
    'model.backbone.init_cfg.checkpoint=PATH (for BiSeNetV1 '
    'model.backbone.backbone_cfg.init_cfg.checkpoint=PATH)'
)
#: Prefixes of a backbone's keys in checkpoints of distillers and task
#: networks.
PREFIXES = ('', 'student.', 'backbone.')


@WEIGHT_INITIALIZERS.register_module(name='Pretrained')
class StrictPretrained:
    """Load a backbone completely, or raise an error that lists mismatches.

    Use it as ``init_cfg=dict(type='Pretrained', _scope_='repfusion_mm',
    checkpoint=...)``. It is registered as ``Pretrained`` because mmengine
    runs initializers of that name after all others.

    Args:
        checkpoint: An exported student, or a training checkpoint of a
            distiller (its student is found, with EMA weights if it has
            them) or of a task network (its backbone is found). A
            path, or any address that ``mmengine.fileio`` reads.
        prefix: Prefix of the backbone's keys in the checkpoint, e.g.
            ``'backbone.'``; by default the one that fits best.
        allow_missing: Patterns (``*``) of backbone tensors that may be
            missing in the checkpoint.
        allow_unused: Patterns of checkpoint tensors that may be unused; by
            default none, so that a deeper student is refused.
        allow_changes: Log, instead of refusing, that the backbone computes
            other maps than the student with the same weights.

    Raises:
        ValueError: ``checkpoint`` is empty, tensors are missing or unused, or
            the backbone does not compute what the student did, which shapes
            do not show.
        FileNotFoundError: There is no such file.
    """

    def __init__(
        self,
        checkpoint: str,
        prefix: Optional[str] = None,
        allow_missing: Sequence[str] = (),
        allow_unused: Sequence[str] = (),
        allow_changes: bool = False,
    ) -> None:
        self.checkpoint = checkpoint
        self.prefix = prefix
        self.allow_missing = tuple(allow_missing)
        self.allow_unused = tuple(allow_unused)
        self.allow_changes = allow_changes

    def __call__(self, module: nn.Module) -> None:
        """Load the checkpoint into ``module``."""
        source, meta = read_checkpoint(self.checkpoint, HINT)
        target = module.state_dict()
        prefix = self.prefix
        if prefix is None:
            prefix = find_prefix(source, target)
        source = select_prefix(source, prefix)
        mismatches = find_incompatible_keys(
            source, target, self.allow_missing, self.allow_unused
        )
        mismatches, adapted = compare_with_hooks(module, source, mismatches)
        stem, others = compare_strides(meta.get('strides', {}), module)
        mismatches += stem
        name = type(module).__name__
        if mismatches:
            student = f', {meta["student"]}' if meta.get('student') else ''
            raise ValueError(
                describe_mismatches(self.checkpoint, module, mismatches)
                + f'\nBuild {name} with the arguments of the distilled '
                f'student{student} (stem, depth, width; mmseg.ResNetV1c must '
                'be distilled as mmseg.ResNetV1c), or list tensors that may '
                'keep their random values in init_cfg.allow_missing, and '
                'those that may be unused in init_cfg.allow_unused'
            )
        loaded = {k: v for k, v in source.items() if k in target}
        complete = source.keys() == target.keys() and not adapted
        if 'behavior' in meta and complete:
            self._compare(meta['behavior'], module, loaded)
        module.load_state_dict(loaded, strict=False)
        note = f' (strides differ: {others})' if others else ''
        if adapted:
            note += f'; its loading hooks adapted {adapted[:5]}'
        print_log(
            f'loaded {len(loaded)}/{len(target)} tensors of {name} from '
            f'{self.checkpoint}{note}',
            logger='current',
        )
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=f'from {self.checkpoint}')

    def _compare(
        self,
        behavior: dict,
        module: nn.Module,
        weights: Dict[str, torch.Tensor],
    ) -> None:
        changes = find_changes(behavior, module, weights)
        if not changes:
            return
        text = (
            f'expected {type(module).__name__} to compute what the student in '
            f'{self.checkpoint!r} computes, got another function of the same '
            'weights:\n  ' + '\n  '.join(changes[:10])
        )
        if not self.allow_changes:
            raise ValueError(
                text + '\nDistill the backbone that is finetuned, with the '
                'same arguments, or set init_cfg.allow_changes=True'
            )
        print_log(text, logger='current', level=logging.WARNING)


def find_prefix(source: StateDict, target: StateDict) -> str:
    """Return the prefix with which most tensors of a module are found.

    It is one of ``PREFIXES`` if these are as good as others, such as
    ``'module.'`` of a distributed model.

    Raises:
        ValueError: Several other prefixes are equally good.
    """
    first = next(iter(target), '')
    found = {key[: -len(first)] for key in source if key.endswith(first)}
    counts = {
        prefix: sum(prefix + key in source for key in target)
        for prefix in (*PREFIXES, *sorted(found - {*PREFIXES}))
    }
    best = [p for p, n in counts.items() if n == max(counts.values())]
    if len(best) > 1 and best[0] not in PREFIXES:
        raise ValueError(
            f'expected one backbone in the checkpoint, got {len(best)}, under '
            f'the prefixes {best}; set init_cfg.prefix to one of them'
        )
    return best[0]
