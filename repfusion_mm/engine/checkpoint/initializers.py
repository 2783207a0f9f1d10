"""A strict 'Pretrained' initializer."""

from __future__ import annotations

import logging
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

import torch
import torch.nn as nn
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.model.weight_init import initialize, update_init_info
from mmengine.registry import MODELS
from mmengine.registry import WEIGHT_INITIALIZERS as ROOT

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
from repfusion_mm.utils.arguments import check_flags, check_list

HINT = (
    'distillation writes student.pth into its work directory: name it in the '
    'init_cfg of the backbone, or on the command line by --cfg-options '
    'model.backbone.init_cfg.checkpoint=PATH (of a distiller '
    'model.student.init_cfg.checkpoint=PATH, for BiSeNetV1 '
    'model.backbone.backbone_cfg.init_cfg.checkpoint=PATH)'
)
#: Prefixes of a backbone's keys in checkpoints of distillers and task
#: networks.
PREFIXES = ('', 'student.', 'backbone.')
#: Attribute of a loaded backbone: the file, the pixels that it records, and
#: ``allow_changes``.
SOURCE = '_pretrained_on'


@WEIGHT_INITIALIZERS.register_module(name='Pretrained')
class StrictPretrained:
    """Load a backbone completely, or raise an error that lists mismatches.

    Use it as ``init_cfg=dict(type='Pretrained', _scope_='repfusion_mm',
    checkpoint=...)``. It is registered as ``Pretrained`` because mmengine
    runs initializers of that name after all others.

    Some backbones do not call the initializer but read ``init_cfg``
    themselves, or initialize layers after loading. ``StrictLoadHook`` calls
    it after ``init_weights``; without this hook, the weights of these
    backbones are not checked.
    If a backbone passes its ``init_cfg`` to its layers, they are loaded with
    the backbone and not separately.

    Args:
        checkpoint: An exported student, or a training checkpoint of a
            distiller (its student is found, with EMA weights if it has
            them) or of a task network (its backbone is found). A
            path, or any address that ``mmengine.fileio`` reads.
        prefix: Prefix of the backbone's keys in the checkpoint, e.g.
            ``'backbone.'``; by default the one that fits best. A student that
            ``ExportStudentHook`` wrote with a prefix needs the same one, so
            that mmengine's own initializer reads the same tensors.
        map_location: Accepted as by mmengine's own initializer; files are
            always read on the CPU.
        allow_missing: Patterns (``*``) of backbone tensors that may be
            missing in the checkpoint.
        allow_unused: Patterns of checkpoint tensors that may be unused; by
            default none, so that a deeper student is refused.
        allow_changes: If the outputs of the backbone differ from those of the
            student with the same weights, or the mean, std or channel order
            of its images from the distillation's, log a warning instead of
            raising.

    Raises:
        ValueError: ``checkpoint`` is empty, patterns are not in a list, no
            key starts with ``prefix``, the student was exported with another
            one, tensors are missing or unused, none is
            loaded, or the outputs of the backbone differ from those of the
            student, although the tensors have the same shapes.
        FileNotFoundError: There is no such file.
    """

    def __init__(
        self,
        checkpoint: str,
        prefix: Optional[str] = None,
        map_location: object = 'cpu',
        allow_missing: Sequence[str] = (),
        allow_unused: Sequence[str] = (),
        allow_changes: bool = False,
    ) -> None:
        check_list('init_cfg.allow_missing', allow_missing)
        check_list('init_cfg.allow_unused', allow_unused)
        check_flags('init_cfg', allow_changes=allow_changes)
        self.checkpoint = checkpoint
        self.prefix = prefix
        self.allow_missing = tuple(allow_missing)
        self.allow_unused = tuple(allow_unused)
        self.allow_changes = allow_changes

    def __call__(self, module: nn.Module) -> None:
        """Load the checkpoint into ``module``."""
        source, meta = read_checkpoint(self.checkpoint, HINT)
        target = module.state_dict()
        prefixes = find_prefixes(source, target)
        prefix = self.prefix
        if prefix and not prefix.endswith('.'):
            prefix += '.'  # as mmengine's own initializer does
        if prefixes[0] not in (*PREFIXES, prefix) and _is_part(module):
            print_log(
                f'{type(module).__name__}: loaded with its backbone, '
                'whose init_cfg it shares',
                logger='current',
            )
            return
        exported = meta.get('prefix')
        if exported and prefix != exported:
            raise ValueError(
                f'expected init_cfg.prefix={exported!r} for the student in '
                f'{self.checkpoint!r}, which ExportStudentHook wrote with '
                f'this prefix, got {self.prefix!r}; set it'
            )
        if prefix is None:
            prefix = prefixes[0]
            if len(prefixes) > 1:
                raise ValueError(
                    f'expected one {type(module).__name__} in '
                    f'{self.checkpoint!r}, got {len(prefixes)}, under the '
                    f'prefixes {prefixes[:5]}; set init_cfg.prefix to one of '
                    'them'
                )
        selected = select_prefix(source, prefix)
        if not selected:
            raise ValueError(
                f'expected keys that start with {prefix!r} in '
                f'{self.checkpoint!r}, got {list(source)[:3]}; leave '
                'init_cfg.prefix out, or set it to None if a base config sets '
                'it, so that the one that fits is found'
            )
        source = selected
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
        loaded = {k: v for k, v in source.items() if k in target or adapted}
        complete = source.keys() == target.keys() and not adapted
        if target and not loaded:
            raise ValueError(
                f'expected weights of {name} in {self.checkpoint!r}, got no '
                f'tensor of its names, but {list(source)[:3]}; narrow '
                'init_cfg.allow_missing, and give the file of this backbone'
            )
        if 'behavior' in meta:
            self._compare(meta['behavior'], module, loaded, complete)
        else:
            print_log(
                f'{name}: outputs are not compared with those of the '
                f'student, which {self.checkpoint} does not contain (only '
                'files of ExportStudentHook do)',
                logger='current',
                level=logging.WARNING,
            )
        missing = module.load_state_dict(loaded, strict=False).missing_keys
        # StrictLoadHook, which sees the data, compares the images.
        record = (self.checkpoint, meta.get('pixels'), self.allow_changes)
        setattr(module, SOURCE, record)
        note = f' (strides differ: {others})' if others else ''
        if adapted:
            note += f'; load_state_dict hooks resolved {adapted[:5]}'
        print_log(
            f'loaded {len(target) - len(missing)}/{len(target)} tensors of '
            f'{name} from '
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
        complete: bool,
    ) -> None:
        changes = find_changes(behavior, module, weights, complete)
        if not changes:
            return
        text = (
            f'expected {type(module).__name__} to compute the same outputs as '
            f'the student in {self.checkpoint!r}, got differences with the '
            'same weights:\n  ' + '\n  '.join(changes[:10])
        )
        if not self.allow_changes:
            raise ValueError(
                text + '\nDistill the backbone that is finetuned, with the '
                'same arguments, or set init_cfg.allow_changes=True'
            )
        print_log(text, logger='current', level=logging.WARNING)


def find_prefixes(source: StateDict, target: StateDict) -> List[str]:
    """Return the prefixes for which most tensors of a module are found.

    Several are returned if they tie, unless one of them is in ``PREFIXES``:
    then only this one.
    """
    first = next(iter(target), '')
    found = {key[: -len(first)] for key in source if key.endswith(first)}
    counts = {
        prefix: sum(prefix + key in source for key in target)
        for prefix in (*PREFIXES, *sorted(found - {*PREFIXES}))
    }
    best = [p for p, n in counts.items() if n == max(counts.values())]
    return best[:1] if best[0] in PREFIXES else best


def detach_init_cfgs(model: nn.Module) -> List[Tuple[Any, Any]]:
    """Remove ``StrictPretrained`` from the ``init_cfg`` of all modules.

    Backbones with an ``init_weights`` of their own may load the file
    differently, or initialize layers after loading.

    Returns:
        Modules and their original ``init_cfg``, for ``run_init_cfgs``.
    """
    detached = []
    module: Any
    for module in model.modules():
        if getattr(module, 'is_init', False):  # it may be trained already
            continue
        init_cfg = getattr(module, 'init_cfg', None)
        others = [cfg for cfg in _as_list(init_cfg) if not _is_strict(cfg)]
        if len(others) < len(_as_list(init_cfg)):
            detached.append((module, init_cfg))
            module.init_cfg = others or None
    return detached


def run_init_cfgs(detached: Sequence[Tuple[Any, Any]]) -> None:
    """Restore what ``detach_init_cfgs`` removed, and load the weights.

    Raises:
        ValueError: See ``StrictPretrained``.
        FileNotFoundError: There is no such file.
    """
    parts: set = set()  # layers may share the init_cfg of their backbone
    for module, init_cfg in detached:
        module.init_cfg = init_cfg
        if module in parts:
            continue
        parts.update(module.modules())
        try:
            initialize(module, list(filter(_is_strict, _as_list(init_cfg))))
        except ValueError as error:
            init = getattr(type(module), 'init_weights', None)
            if init is BaseModule.init_weights:
                raise
            raise ValueError(
                f'{error}; or use the loading of {type(module).__name__} '
                'itself, without checks: remove from init_cfg _scope_ and '
                'the arguments that mmengine does not know'
            ) from error


def find_init_cfgs(config: Any, place: str = 'model') -> Dict[str, str]:
    """Return the checkpoints of ``StrictPretrained`` by their place."""
    if _is_strict(config):
        return {place: config.get('checkpoint')}
    items: Iterable[Tuple[Any, Any]] = ()
    if isinstance(config, dict):
        items = config.items()
    elif isinstance(config, (list, tuple)):
        items = enumerate(config)
    found: Dict[str, str] = {}
    for key, value in items:
        found.update(find_init_cfgs(value, f'{place}.{key}'))
    return found


def check_loaded(model: nn.Module, config: Any) -> None:
    """Refuse a backbone that did not load its ``init_cfg``.

    Args:
        model: The model, after its initialization.
        config: The config of the model.

    Raises:
        ValueError: A checkpoint of ``StrictPretrained`` was not loaded.
    """
    loaded = {getattr(m, SOURCE, ('',))[0] for m in model.modules()}
    for place, checkpoint in find_init_cfgs(config).items():
        if checkpoint not in loaded:
            raise ValueError(
                f'expected {checkpoint!r} of {place} to be loaded, got a '
                'module that ignores it: one with other weights already, such '
                'as of pretrained=True or checkpoint_path, or one that reads '
                'its init_cfg itself; remove these arguments, or use the '
                'loading of the module, without checks: remove from init_cfg '
                '_scope_ and the arguments that mmengine does not know'
            )


def _as_list(init_cfg: Any) -> list:
    if isinstance(init_cfg, (list, tuple)):
        return list(init_cfg)
    return [init_cfg] if init_cfg else []


def _is_part(module: nn.Module) -> bool:
    """Return whether a module is being initialized that is in no registry."""
    registries = [MODELS, *MODELS.children.values()]
    return hasattr(module, '_params_init_info') and not any(
        type(module) in registry.module_dict.values()
        for registry in registries
    )


def _is_strict(cfg: object) -> bool:
    if not isinstance(cfg, dict) or 'type' not in cfg:
        return False
    if not isinstance(cfg['type'], str):
        return cfg['type'] is StrictPretrained
    if not cfg['type'].endswith('Pretrained'):
        return False
    scope = cfg.get('_scope_')
    with ROOT.switch_scope_and_registry(scope) as registry:
        return registry.get(cfg['type']) is StrictPretrained
