"""Write the trained model in the format of diffusers."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import torch
from mmengine.hooks import Hook

from repfusion_mm.engine.preflight.pixels import check_pixels
from repfusion_mm.engine.utils import (
    check_export,
    copy_to_cpu,
    log_export,
    unwrap_model,
)
from repfusion_mm.registry import HOOKS
from repfusion_mm.utils.arguments import check_choice
from repfusion_mm.utils.folders import replace_folder

DTYPES = ('float32', 'float16')
#: In the folder of a model: for how long it was trained.
TRAINING = 'training.json'


@HOOKS.register_module()
class ExportDiffusersHook(Hook):
    """Write a generative model as diffusers does, with every checkpoint.

    A denoiser is written with its scheduler, and, if it has an autoencoder,
    as a pipeline. ``DiffusersTeacher(pretrained=FOLDER)`` and diffusers'
    ``from_pretrained(FOLDER)`` read it. The weights are those of the
    checkpoint, averaged ones with an EMAHook.

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
        check_choice('ExportDiffusersHook.dtype', dtype, DTYPES)
        self.filename = filename
        self.dtype = getattr(torch, dtype)

    def before_train(self, runner) -> None:
        """Warn if the model is never written, and check its images.

        Raises:
            ValueError: The model would get BGR images.
        """
        check_export(runner, self.filename)
        dataset = runner.train_dataloader.dataset
        check_pixels(dataset, unwrap_model(runner))

    def after_train(self, runner) -> None:
        """Log where the model is."""
        log_export(runner, 'model', self.filename)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Write the model of ``checkpoint``."""
        model = copy_to_cpu(unwrap_model(runner))
        model.load_state_dict(checkpoint['state_dict'])
        path = Path(runner.work_dir, self.filename).resolve()
        unfinished = path.with_name(path.name + '.tmp')
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            model.save_pretrained(unfinished, self.dtype)
            length = dict(iterations=checkpoint['meta']['iter'])
            unfinished.joinpath(TRAINING).write_text(
                json.dumps(length), encoding='utf-8'
            )
            for file in unfinished.rglob('*.safetensors'):
                # Otherwise other users cannot read it.
                shutil.copymode(file.with_name('config.json'), file)
        except Exception as error:  # safetensors has error classes of its own
            shutil.rmtree(unfinished, ignore_errors=True)
            reason = getattr(error, 'strerror', None) or error
            code = getattr(error, 'errno', None) or errno.EIO
            raise OSError(code, f'{reason} ({unfinished})') from error
        replace_folder(unfinished, path)
