"""Write what leaves the house: student backbones and denoisers."""

from __future__ import annotations

import copy
import errno
import os
import shutil
from pathlib import Path
from typing import Dict

import torch
from mmengine.hooks import Hook
from mmengine.runner import save_checkpoint

from repfusion_mm.engine.checkpoint.io import strides_of
from repfusion_mm.engine.hooks.checkpoint_hook import ATOMIC
from repfusion_mm.engine.hooks.periodic_hook import unwrap_model
from repfusion_mm.registry import HOOKS
from repfusion_mm.version import __version__


class _ExportHook(Hook):
    # Behind EMAHook (NORMAL), which puts the average into the checkpoint.
    priority = 'LOW'

    def __init__(self, filename: str) -> None:
        self.filename = filename


@HOOKS.register_module()
class ExportStudentHook(_ExportHook):
    """Write the student backbone beside every checkpoint.

    The file holds plain backbone keys, so that the stock
    ``init_cfg=dict(type='Pretrained', checkpoint=...)`` of any OpenMMLab
    project loads it without this package. The weights are those of the
    checkpoint: the average, where the run keeps one. ``meta`` says where they
    come from.

    Args:
        filename: Name of the file in the work directory.
    """

    def __init__(self, filename: str = 'student.pth') -> None:
        super().__init__(filename)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Write the student of ``checkpoint``."""
        model_cfg = runner.cfg.get('model', {})
        content = dict(
            state_dict=_part(checkpoint, 'student.'),
            meta=dict(
                repfusion_mm=__version__,
                epoch=checkpoint['meta']['epoch'],
                iter=checkpoint['meta']['iter'],
                averaged='ema_state_dict' in checkpoint,
                student=str(model_cfg.get('student')),
                # Which the weights do not tell, and StrictPretrained checks.
                strides=strides_of(unwrap_model(runner).student),
                teacher=str(model_cfg.get('teacher')),
                data_preprocessor=str(model_cfg.get('data_preprocessor')),
                channel_order=unwrap_model(runner).channel_order,
            ),
        )
        path = Path(runner.work_dir, self.filename)
        save_checkpoint(content, str(path), backend_args=ATOMIC)


@HOOKS.register_module()
class ExportDenoiserHook(_ExportHook):
    """Write the denoiser as a diffusers folder beside every checkpoint.

    ``DiffusersTeacher(pretrained=FOLDER)`` and diffusers'
    ``from_pretrained(FOLDER)`` of the denoiser and of schedulers read it.

    Args:
        filename: Name of the folder in the work directory.
        dtype: Type of the weights in the file, ``'float32'`` or
            ``'float16'``; the teacher computes in float32 from both.

    Raises:
        ValueError: ``dtype`` is neither.
    """

    def __init__(
        self, filename: str = 'teacher', dtype: str = 'float32'
    ) -> None:
        super().__init__(filename)
        if dtype not in ('float32', 'float16'):
            raise ValueError(
                f"expected dtype 'float32' or 'float16', got {dtype!r}"
            )
        self.dtype = getattr(torch, dtype)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Write the denoiser of ``checkpoint``."""
        model = unwrap_model(runner)
        denoiser = copy.deepcopy(model.denoiser).cpu()
        denoiser.load_state_dict(_part(checkpoint, 'denoiser.'))
        denoiser.to(self.dtype)
        path = Path(runner.work_dir, self.filename)
        unfinished = path.with_name(path.name + '.tmp')
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            denoiser.save_pretrained(unfinished)
            model.scheduler.save_pretrained(unfinished)
        except Exception as error:  # safetensors has errors of its own
            shutil.rmtree(unfinished, ignore_errors=True)
            reason = getattr(error, 'strerror', None) or error
            code = getattr(error, 'errno', None) or errno.EIO
            raise OSError(code, f'{reason} ({unfinished})') from error
        shutil.rmtree(path, ignore_errors=True)
        os.replace(unfinished, path)


def _part(checkpoint: dict, prefix: str) -> Dict[str, torch.Tensor]:
    return {
        key[len(prefix) :]: value
        for key, value in checkpoint['state_dict'].items()
        if key.startswith(prefix)
    }
