"""The lines that use a student in another project."""

from __future__ import annotations

import os.path as osp
from pathlib import Path
from typing import Any, Dict, List, Optional

from mmengine.config import Config

from repfusion_mm.own_images.labels import Labels

#: Pages on the projects that finetune for each task.
PROJECTS = dict(
    classes='mmpretrain', masks='mmseg', keypoints='mmpose', boxes='mmdet'
)
#: Arguments that freeze layers of a backbone, and the values that freeze none.
UNFROZEN = dict(frozen_stages=-1, norm_eval=False)
PRETRAINED = 'Pretrained'
#: Refuses a checkpoint, or pixels, that do not fit the model.
STRICT = dict(strict_load=dict(type='repfusion_mm.StrictLoadHook'))


#: The configs that are written, from the student and from random weights.
FINETUNE, SCRATCH = 'finetune.py', 'finetune_scratch.py'


def write_configs(path: str, cfg: Config, student: Path) -> str:
    """Write configs that finetune the student; return how to use them.

    Args:
        path: The config of the project that the student is taken from.
        cfg: The config of the distillation.
        student: The exported student, in the folder to write to.
    """
    folder = student.parent
    for name, checkpoint in ((FINETUNE, student), (SCRATCH, None)):
        text = Config(inherit(path, cfg, checkpoint)).pretty_text
        (folder / name).write_text(text, encoding='utf-8')
    places = find_pretrained(Config.fromfile(folder / SCRATCH).model)
    return (
        'To finetune the student and, to compare with it, the same network '
        'from random weights, run the train.py of your project with two seeds '
        'or more, each in a folder of its own (--work-dir '
        'work_dirs/finetune_0 --cfg-options randomness.seed=0):\n'
        f'    {folder / FINETUNE}\n    {folder / SCRATCH}\n'
        'Then compare them: tools/analysis_tools/report.py WORK_DIR ...'
        + f'\nStill pretrained in both: {", ".join(places)}'
        * bool(places)
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
    backbone = cfg.model.student.to_dict()
    backbone.update(_delete_=True, init_cfg=read_weights(cfg, student))
    model: Dict[str, Any] = dict(backbone=backbone)
    if project == 'mmseg':
        model['pretrained'] = None  # refused together with init_cfg
    settings = dict(
        custom_imports=dict(imports=['repfusion_mm']),
        default_hooks=STRICT,
        model=model,
    )
    part = settings if project == 'mmpretrain' else model
    part['data_preprocessor'] = preprocess(cfg, project)
    return (
        f'To finetune the student, write into your config of {project} (with '
        'the out_indices that its head reads):\n\n'
        f'{Config(settings).pretty_text}'
    )


def inherit(path: str, cfg: Config, student: Optional[Path]) -> Dict[str, Any]:
    """Return the settings that change the initialization in a config.

    Args:
        path: The config, of which the student is the backbone.
        cfg: The config of the distillation.
        student: The exported student; None for random weights.
    """
    path = osp.abspath(osp.expanduser(path))
    base = Config.fromfile(path)
    old, distilled = base.model.backbone, cfg.model.student
    backbone: Dict[str, Any] = {}
    for name, value in UNFROZEN.items():
        is_default = name not in old and name in distilled
        if is_default or old.get(name, value) != value:
            backbone[name] = value
    if (old.get('norm_cfg') or {}).get('requires_grad') is False:
        backbone['norm_cfg'] = dict(old.norm_cfg, requires_grad=True)
    if not {'init_cfg', 'pretrained'}.isdisjoint(old):
        backbone = dict(old.to_dict(), _delete_=True, **backbone)
        for name in ('init_cfg', 'pretrained'):
            backbone.pop(name, None)
    imports = read_imports(base)
    if 'repfusion_mm' not in imports:
        imports.insert(0, 'repfusion_mm')
    model: Dict[str, Any] = dict(backbone=backbone)
    if 'pretrained' in base.model:
        model['pretrained'] = None
    if 'init_cfg' in base.model:
        model['init_cfg'] = _without_pretrained(base.model.init_cfg)
    if student is not None:
        backbone['init_cfg'] = read_weights(cfg, student)
    settings: Dict[str, Any] = dict(
        _base_=[path],
        custom_imports=dict(imports=imports),
        # Also from random weights: report.py compares equal settings.
        default_hooks=STRICT,
        model=model,
    )
    if base.get('load_from'):
        settings['load_from'] = None  # it would overwrite the student
    if read_pixels(base) is None:
        model['data_preprocessor'] = preprocess(
            cfg, base.get('default_scope', '')
        )
    return settings


def read_imports(cfg: Config) -> List[str]:
    """Return the modules that a config imports."""
    imports = (cfg.get('custom_imports') or {}).get('imports', [])
    return [imports] if isinstance(imports, str) else [*imports]


def find_pretrained(config: Any, place: str = 'model') -> List[str]:
    """Return the places in a config of a model that load a file."""
    if isinstance(config, (list, tuple)):
        config = dict(enumerate(config))
    if not isinstance(config, dict):
        return []
    kind = str(config.get('type')).split('.')[-1]
    found = [place] if kind == PRETRAINED else []
    for key, value in config.items():
        name = f'{place}.{key}'
        is_file = key == 'pretrained' and value
        found += [name] if is_file else find_pretrained(value, name)
    return found


def _without_pretrained(init_cfg: Any) -> Optional[list]:
    """Return an ``init_cfg`` without the weights of a file."""
    found = init_cfg if isinstance(init_cfg, list) else [init_cfg]
    kept = [i for i in found if i and i['type'].split('.')[-1] != PRETRAINED]
    return [dict(i) for i in kept] or None


def read_weights(cfg: Config, student: Path) -> Dict[str, Any]:
    """Return the ``init_cfg`` that loads the student of a distillation."""
    init_cfg = dict(
        type=PRETRAINED, _scope_='repfusion_mm', checkpoint=str(student)
    )
    prefix = cfg.default_hooks.export_student.get('prefix')
    return dict(init_cfg, prefix=prefix) if prefix else init_cfg


def read_pixels(cfg: Config) -> Optional[Dict[str, Any]]:
    """Return how a finetuning config normalizes images, if it does.

    Returns:
        ``mean`` and ``std`` of the three channels, and ``bgr_to_rgb``.
    """
    found = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor')
    if not found or not (found.get('mean') and found.get('std')):
        return None
    to_rgb = found.get('to_rgb') or found.get('bgr_to_rgb') or False
    return dict(mean=found.mean, std=found.std, bgr_to_rgb=to_rgb)


def preprocess(cfg: Config, project: str) -> Dict[str, Any]:
    """Return the mean, std and channel order of the distillation."""
    pixels = cfg.model.data_preprocessor
    order = 'to_rgb' if project == 'mmpretrain' else 'bgr_to_rgb'
    return {'mean': pixels.mean, 'std': pixels.std, order: pixels.bgr_to_rgb}
