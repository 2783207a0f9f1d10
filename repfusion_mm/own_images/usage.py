"""The lines that use a student in another project."""

from __future__ import annotations

import os.path as osp
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

from mmengine.config import Config

from repfusion_mm.own_images.labels import Labels

#: Pages on the projects that finetune for each task.
PROJECTS = dict(
    classes='mmpretrain', masks='mmseg', keypoints='mmpose', boxes='mmdet'
)
#: Arguments that keep layers of a backbone as they begin, and the values
#: that do not.
FREE = dict(frozen_stages=-1, norm_eval=False)


def describe_usage(
    cfg: Config,
    student: Path,
    labels: Optional[Labels],
    words: Optional[Sequence[str]] = None,
) -> str:
    """Return the settings of a finetuning config that load a student.

    Args:
        cfg: The config of the distillation.
        student: The exported student.
        labels: The labels, whose kind decides the project.
        words: What names the student, as in
            :func:`~repfusion_mm.own_images.choices.choose_student`.
    """
    if words and words[0].endswith('.py'):
        path = osp.abspath(osp.expanduser(words[0]))
        return (
            'To finetune the student, write this config, and train it:\n\n'
            + Config(inherit(path, cfg, student)).pretty_text
        )
    project = PROJECTS[labels.task if labels else 'classes']
    model: Dict[str, Any] = dict(
        backbone=dict(
            _delete_=True,
            **cfg.model.student.to_dict(),
            init_cfg=read_weights(cfg, student),
        )
    )
    if project == 'mmseg':
        model['pretrained'] = None  # refused together with init_cfg
    settings = dict(custom_imports=dict(imports=['repfusion_mm']), model=model)
    part = settings if project == 'mmpretrain' else model
    part['data_preprocessor'] = preprocess(cfg, project)
    return (
        f'To finetune the student, write into your config of {project} (with '
        'the out_indices that its head reads):\n\n'
        f'{Config(settings).pretty_text}'
    )


def inherit(path: str, cfg: Config, student: Path) -> Dict[str, Any]:
    """Return the settings that load a student in the config it is taken from.

    Args:
        path: That config.
        cfg: The config of the distillation.
        student: The exported student.
    """
    base = Config.fromfile(path)
    old = base.model.backbone
    backbone: Dict[str, Any] = dict(init_cfg=read_weights(cfg, student))
    if 'init_cfg' in old:
        backbone['init_cfg'] = dict(_delete_=True, **backbone['init_cfg'])
    distilled = cfg.model.student
    for name, value in FREE.items():
        is_default = name not in old and name in distilled
        if is_default or old.get(name, value) != value:
            backbone[name] = value
    imports = (base.get('custom_imports') or {}).get('imports', [])
    imports = [imports] if isinstance(imports, str) else [*imports]
    if 'repfusion_mm' not in imports:
        imports.insert(0, 'repfusion_mm')
    model: Dict[str, Any] = dict(backbone=backbone)
    if 'pretrained' in base.model:
        model['pretrained'] = None
    settings = dict(
        _base_=[path],
        custom_imports=dict(imports=imports),
        model=model,
    )
    is_own = 'data_preprocessor' in base.model
    part = model if is_own or 'data_preprocessor' not in base else settings
    project = base.get('default_scope', '')
    part['data_preprocessor'] = preprocess(cfg, project)
    return settings


def read_weights(cfg: Config, student: Path) -> Dict[str, Any]:
    """Return the ``init_cfg`` that loads the student of a distillation."""
    init_cfg = dict(
        type='Pretrained', _scope_='repfusion_mm', checkpoint=str(student)
    )
    prefix = cfg.default_hooks.export_student.get('prefix')
    return dict(init_cfg, prefix=prefix) if prefix else init_cfg


def preprocess(cfg: Config, project: str) -> Dict[str, Any]:
    """Return the mean, std and channel order of the distillation."""
    pixels = cfg.model.data_preprocessor
    order = 'to_rgb' if project == 'mmpretrain' else 'bgr_to_rgb'
    return {'mean': pixels.mean, 'std': pixels.std, order: True}
