"""Refuse a checkpoint that does not fit the model."""

from __future__ import annotations

from mmengine.hooks import Hook

from repfusion_mm.engine.checkpoint.io import (
    find_incompatible_keys,
    name_of_loaded,
    shorten,
)
from repfusion_mm.engine.hooks.periodic_hook import unwrap_model
from repfusion_mm.registry import HOOKS

TO_START = (
    '; to start training from a backbone, name its file in '
    "init_cfg=dict(type='Pretrained', _scope_='repfusion_mm', checkpoint=...)"
)


@HOOKS.register_module()
class StrictLoadHook(Hook):
    """Stop where mmengine would load what fits and log the rest.

    It sees the checkpoints of ``resume``, ``load_from`` and ``tools/test.py``
    before the model does. The tools of this package add it to every config.
    A config in the text of a checkpoint, which mmengine's ``resume`` would
    run as Python, is left out.

    Raises:
        ValueError: The checkpoint does not fit the model, or is none.
    """

    # Before any hook that takes something out of the checkpoint.
    priority = 'HIGHEST'

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Compare the checkpoint with the model."""
        file = name_of_loaded(runner)
        if not isinstance(checkpoint, dict):
            raise ValueError(
                f'expected a checkpoint in {file}, got a file with '
                f'a {type(checkpoint).__name__}; give one that '
                'tools/train.py has written'
            )
        meta = checkpoint.get('meta')
        if isinstance(meta, dict) and meta.pop('config', None) is not None:
            runner.logger.warning(
                "left out the checkpoint's own config: a config is Python, "
                'and a checkpoint is not trusted to bring any'
            )
        source = checkpoint.get('state_dict', checkpoint)
        target = unwrap_model(runner).state_dict()
        faults = find_incompatible_keys(source, target)
        if faults:
            name = type(unwrap_model(runner)).__name__
            raise ValueError(
                f'expected the checkpoint {file} to fit all {len(target)} '
                f'tensors of {name}, got {len(faults)} faults:\n  '
                + '\n  '.join(shorten(faults))
                + '\nUse the config that wrote it'
                + ('' if runner._resume else TO_START)
            )
