"""The lines that use a student in another project."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from mmengine.config import Config

from repfusion_mm.own_images.labels import Labels

#: Pages on the projects that finetune for each task.
PROJECTS = dict(
    classes='mmpretrain', masks='mmseg', keypoints='mmpose', boxes='mmdet'
)


def describe_usage(
    cfg: Config, student: Path, labels: Optional[Labels]
) -> str:
    """Return the settings of a finetuning config that load a student.

    Args:
        cfg: The config of the distillation.
        student: The exported student.
        labels: The labels, whose kind decides the project.
    """
    project = PROJECTS[labels.task if labels else 'classes']
    backbone = dict(
        _delete_=True,
        **cfg.model.student.to_dict(),
        init_cfg=dict(
            type='Pretrained', _scope_='repfusion_mm', checkpoint=str(student)
        ),
    )
    pixels = cfg.model.data_preprocessor
    order = 'to_rgb' if project == 'mmpretrain' else 'bgr_to_rgb'
    preprocessor = {'mean': pixels.mean, 'std': pixels.std, order: True}
    model = dict(backbone=backbone)
    settings = dict(custom_imports=dict(imports=['repfusion_mm']), model=model)
    if project == 'mmpretrain':
        settings['data_preprocessor'] = preprocessor
    else:
        model['data_preprocessor'] = preprocessor
    return (
        f'To finetune the student, write into your config of {project} (with '
        'the out_indices that its head reads):\n\n'
        f'{Config(settings).pretty_text}'
    )
