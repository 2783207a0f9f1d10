"""Write the trained denoiser next to every checkpoint."""

from __future__ import annotations

import copy
import errno
import os
import shutil
from pathlib import Path

import torch
import torch.nn as nn
from mmengine.hooks import Hook

from repfusion_mm.engine.preflight.pixels import check_pixels
from repfusion_mm.engine.utils import check_export, select_prefix, unwrap_model
from repfusion_mm.registry import HOOKS
from repfusion_mm.utils.arguments import check_choice

DTYPES = ('float32', 'float16')


@HOOKS.register_module()
class ExportDenoiserHook(Hook):
    """Write the denoiser as a diffusers folder next to every checkpoint.

    ``DiffusersTeacher(pretrained=FOLDER)`` and diffusers'
    ``from_pretrained(FOLDER)`` of the denoiser and of schedulers read it.

    Args:
        filename: Name of the folder in the work directory.
        dtype: Type of the weights in the file, ``'float32'`` or
            ``'float16'``.

    Raises:
        ValueError: ``dtype`` is another one.
    """

    # After EMAHook (NORMAL), which puts the EMA weights into the
    # checkpoint.
    priority = 'LOW'

    def __init__(
        self, filename: str = 'teacher', dtype: str = 'float32'
    ) -> None:
        check_choice('ExportDenoiserHook.dtype', dtype, DTYPES)
        self.filename = filename
        self.dtype = getattr(torch, dtype)

    def before_train(self, runner) -> None:
        """Warn if the denoiser is never written, and check its images.

        Raises:
            ValueError: The denoiser would get BGR images.
        """
        check_export(runner, self.filename)
        dataset = runner.train_dataloader.dataset
        check_pixels(dataset, unwrap_model(runner))

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Write the denoiser of ``checkpoint``."""
        model = unwrap_model(runner)
        denoiser = copy.deepcopy(model.denoiser).cpu()
        denoiser.load_state_dict(
            select_prefix(checkpoint['state_dict'], 'denoiser.')
        )
        # Not diffusers' own to(), which warns of every cast.
        nn.Module.to(denoiser, self.dtype)
        path = Path(runner.work_dir, self.filename)
        unfinished = path.with_name(path.name + '.tmp')
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            denoiser.save_pretrained(unfinished)
            model.scheduler.save_pretrained(unfinished)
        except Exception as error:  # safetensors has error classes of its own
            shutil.rmtree(unfinished, ignore_errors=True)
            reason = getattr(error, 'strerror', None) or error
            code = getattr(error, 'errno', None) or errno.EIO
            raise OSError(code, f'{reason} ({unfinished})') from error
        shutil.rmtree(path, ignore_errors=True)
        os.replace(unfinished, path)
