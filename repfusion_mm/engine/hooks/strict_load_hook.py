"""Refuse a checkpoint that does not fit the model."""

from __future__ import annotations

import copy
import logging
import re
from typing import List, Optional

from mmengine.config import Config
from mmengine.dist import broadcast
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import find_latest_checkpoint

from repfusion_mm.engine.checkpoint.compare import (
    compare_with_hooks,
    describe_mismatches,
    find_incompatible_keys,
)
from repfusion_mm.engine.checkpoint.initializers import (
    check_loaded,
    detach_init_cfgs,
    find_init_cfgs,
    run_init_cfgs,
)
from repfusion_mm.engine.checkpoint.io import (
    find_loaded_path,
    remove_config,
)
from repfusion_mm.engine.preflight.frozen_layers import (
    check_finetuned,
    check_statistics,
)
from repfusion_mm.engine.preflight.student_pixels import check_student_pixels
from repfusion_mm.engine.utils import unwrap_model, use_hooks_once
from repfusion_mm.models.distillers.repfusion import RepFusion
from repfusion_mm.models.utils.pretrained import stock_checkpoints
from repfusion_mm.registry import HOOKS

START_ADVICE = (
    '; to start training from a backbone, name its file in '
    "init_cfg=dict(type='Pretrained', _scope_='repfusion_mm', checkpoint=...)"
)


@HOOKS.register_module()
class StrictLoadHook(Hook):
    """Raise an error where mmengine loads what fits and logs the rest.

    The hook checks the checkpoints of ``resume``, ``load_from`` and
    ``tools/test.py``. Checkpoints in ``init_cfg=dict(type='Pretrained',
    _scope_='repfusion_mm')`` are loaded after ``init_weights``, because some
    backbones would load them without checks. A warning names files that
    mmengine's own ``Pretrained`` loads, because nothing checks them. The hook
    also removes a config that is stored as text in a checkpoint, because
    mmengine's ``resume`` would run it as Python.

    Raises:
        ValueError: The file is not a checkpoint, or does not fit the model; or
            a run that resumes has no checkpoint, but a ``load_from``.
            Before training: a ``load_from`` that overwrites the weights of an
            ``init_cfg``; a module that did not load its ``init_cfg``; batch
            norms in eval mode (``norm_eval``, ``frozen_stages``) into which
            nothing was loaded; or images with another mean, std or channel
            order than in the distillation.
    """

    # Before any hook that removes something from the checkpoint.
    priority = 'HIGHEST'

    def __init__(self) -> None:
        self._loaded = False
        self._loaded_from = ''  # the last file
        self._detached: List[tuple] = []

    def before_run(self, runner) -> None:
        """Use each hook once, warn of files that nothing checks, and refuse a
        ``load_from`` that is dropped.

        The tools of OpenMMLab projects remove it for ``--resume``, also if
        there is no checkpoint to resume from.
        """
        use_hooks_once(runner)
        model = unwrap_model(runner)
        # Otherwise init_weights would run the init_cfgs.
        self._detached += detach_init_cfgs(model)
        if not isinstance(model, RepFusion):  # which checks them itself
            for name, path in stock_checkpoints(model):
                place = f'model.{name}'.rstrip('.')
                print_log(
                    f"{place}: mmengine's Pretrained loads what fits of "
                    f'{path!r} and ignores the rest, which is not checked; '
                    'to check a student, set '
                    f"{place}.init_cfg._scope_='repfusion_mm'",
                    logger='current',
                    level=logging.WARNING,
                )
        if (
            runner._resume
            and not runner._load_from
            and not find_latest_checkpoint(runner.work_dir)
            and not self._detached  # whose weights load_from would overwrite
        ):
            dropped = _configured_load_from(runner.cfg.filename)
            if dropped:
                raise ValueError(
                    f'expected a checkpoint to resume from in '
                    f'{runner.work_dir}, got none, so that load_from='
                    f'{dropped!r} of {runner.cfg.filename} would be ignored; '
                    'start the first run without --resume'
                )

    def before_train(self, runner) -> None:
        """Check that pretrained weights and fixed statistics were loaded."""
        model_config = runner.cfg.get('model')
        if self._detached and self._loaded and not runner._resume:
            places = [*find_init_cfgs(model_config)] or ['init_cfg']
            raise ValueError(
                'expected the initial weights from one file, got '
                f'{self._loaded_from or "a checkpoint"} (load_from), and '
                f'{" and ".join(places)}, whose weights it overwrites; set '
                f'load_from=None, or {" and ".join(places)} to None'
            )
        if not self._loaded and self._detached:
            run_init_cfgs(self._detached)
            for value in unwrap_model(runner).state_dict().values():
                broadcast(value)  # as the runner does after init_weights
            for module, _ in self._detached:
                check_student_pixels(runner, module)
                check_finetuned(runner, module)
            self._detached.clear()
        if not self._loaded:
            check_loaded(unwrap_model(runner), model_config)
        self._loaded = True
        check_statistics(runner)

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Compare the checkpoint with the model."""
        self._loaded = True
        self._loaded_from = file = find_loaded_path(runner)
        if not isinstance(checkpoint, dict):
            raise ValueError(
                f'expected a checkpoint in {file}, got an object '
                f'of type {type(checkpoint).__name__}; give one that '
                'tools/train.py has written'
            )
        remove_config(checkpoint)
        model = unwrap_model(runner)
        if 'state_dict' not in checkpoint:  # which an EMAHook would miss
            weights = copy.copy(checkpoint)
            checkpoint.clear()
            checkpoint['state_dict'] = weights
        source = checkpoint['state_dict']
        if isinstance(source, dict):  # the runner removes the same prefix
            renamed = copy.copy(source)  # with the versions of modules
            renamed.clear()
            for key, value in source.items():
                renamed[re.sub(r'^module.', '', str(key))] = value
            source = renamed
        mismatches, adapted = compare_with_hooks(
            model, source, find_incompatible_keys(source, model.state_dict())
        )
        if adapted:
            runner.logger.info(f'loading hooks adapt {adapted[:5]} of {file}')
        if mismatches:
            raise ValueError(
                describe_mismatches(file, model, mismatches)
                + '\nUse the config of the run that wrote it'
                + ('' if runner._resume else START_ADVICE)
            )


def _configured_load_from(filename: Optional[str]) -> Optional[str]:
    """Return ``load_from`` of a config file, None if it cannot be read.

    The file is read again, because the tool has removed ``load_from`` from the
    config of the run.
    """
    try:
        return Config.fromfile(filename).get('load_from')
    except Exception:  # a config may raise anything, and may be gone
        return None
