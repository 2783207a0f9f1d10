"""Write the student backbone next to every checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import save_checkpoint

from repfusion_mm.engine.checkpoint.behavior import describe_behavior
from repfusion_mm.engine.checkpoint.compare import conv_strides
from repfusion_mm.engine.hooks.checkpoint_hook import ATOMIC
from repfusion_mm.engine.preflight.student_pixels import describe_pixels
from repfusion_mm.engine.utils import (
    attach,
    check_export,
    log_export,
    select_prefix,
    unwrap_model,
)
from repfusion_mm.models.normalizers import BaseNormalizer
from repfusion_mm.registry import HOOKS
from repfusion_mm.version import __version__


@HOOKS.register_module()
class ExportStudentHook(Hook):
    """Write the student backbone next to every checkpoint.

    The file holds plain backbone keys, so that the stock
    ``init_cfg=dict(type='Pretrained', checkpoint=...)`` of any OpenMMLab
    library loads it without this package. The weights are those of the
    checkpoint: the EMA weights if the run has them. ``meta`` records how they
    were made. A run that writes no checkpoint is logged as a warning.

    Args:
        filename: Name of the file in the work directory.
        prefix: Beginning of all keys, e.g. ``'backbone.'`` for configs with
            ``init_cfg=dict(type='Pretrained', prefix='backbone.', ...)``.

    Raises:
        ValueError: ``prefix`` does not end in a dot.
    """

    # After EMAHook (NORMAL), which puts the EMA weights into the checkpoint.
    priority = 'LOW'

    def __init__(
        self, filename: str = 'student.pth', prefix: str = ''
    ) -> None:
        if not isinstance(prefix, str) or (prefix and prefix[-1] != '.'):
            raise ValueError(
                'expected the prefix of ExportStudentHook to be empty or to '
                f"end in '.', as 'backbone.', got {prefix!r}; correct it"
            )
        self.filename = filename
        self.prefix = prefix

    def before_run(self, runner) -> None:
        """Tell the model that its student is exported."""
        attach(runner, 'ExportStudentHook')

    def before_train(self, runner) -> None:
        """Log a warning if student or statistics are never complete."""
        check_export(runner, self.filename)
        size = runner.train_dataloader.batch_sampler.batch_size
        num_images = runner.max_iters * size * get_world_size()
        for normalizer in unwrap_model(runner).normalizers:
            needed = getattr(normalizer, 'num_images', 0)
            if needed > num_images:
                runner.logger.warning(
                    'expected a run of at least model.normalizer.num_images='
                    f'{needed} images, got one of {num_images}: its '
                    'statistics will never be fixed; lower num_images, or '
                    'train longer'
                )
                return

    def after_train(self, runner) -> None:
        """Log where the student is."""
        log_export(runner, 'student', self.filename)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Write the student of ``checkpoint``."""
        model = unwrap_model(runner)
        model_cfg = runner.cfg.get('model', {})
        weights = select_prefix(checkpoint['state_dict'], 'student.')
        # safetensors refuses tensors that share memory or are channels last.
        weights = {
            key: value.clone(memory_format=torch.contiguous_format)
            for key, value in weights.items()
        }
        content = dict(
            state_dict={self.prefix + k: v for k, v in weights.items()},
            meta=dict(
                repfusion_mm=__version__,
                prefix=self.prefix,
                epoch=checkpoint['meta']['epoch'],
                iter=checkpoint['meta']['iter'],
                averaged='ema_state_dict' in checkpoint,
                student=str(model_cfg.get('student')),
                # Shapes do not show them. StrictPretrained checks them.
                strides=conv_strides(model.student),
                behavior=describe_behavior(
                    model.student, weights, model.input_size
                ),
                teacher=str(model_cfg.get('teacher')),  # for people
                # What the student was compared with, by teacher layer.
                normalizer={
                    layer: normalizer.describe()
                    for layer, normalizer in zip(
                        model.teacher.feature_shapes, model.normalizers
                    )
                    if isinstance(normalizer, BaseNormalizer)
                },
                # StrictLoadHook compares them.
                pixels=describe_pixels(model),
            ),
        )
        path = Path(runner.work_dir, self.filename)
        save_checkpoint(content, str(path), backend_args=ATOMIC)
