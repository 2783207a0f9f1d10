"""Choose the settings of a distillation from what is there."""

from __future__ import annotations

import argparse
import inspect
import json
import os.path as osp
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple

import torch
from mmengine.config import Config

import repfusion_mm
from repfusion_mm.cli import add_cfg_options
from repfusion_mm.cli.argument_types import TEACHERS, find_teachers
from repfusion_mm.engine.hooks.export_diffusers_hook import TRAINING
from repfusion_mm.models.teachers.families import find_family
from repfusion_mm.models.teachers.inputs.encoder_loading import open_encoder
from repfusion_mm.models.teachers.inputs.sizes import resolve_image_size
from repfusion_mm.models.teachers.loading.denoiser import find_denoiser
from repfusion_mm.registry import MODELS
from repfusion_mm.utils.types import init_arguments, resolve_type

CONFIGS = Path(repfusion_mm.__file__).parent / '.mim' / 'configs'
#: Layers of denoisers without a config in configs/_base_/teachers.
LAYERS = dict(
    UNet2DModel='mid_block.resnets.1.conv2', UNet2DConditionModel='up_blocks.1'
)
#: Sides up to this one are those of CIFAR-10 and the like.
SMALL_SIDE = 48
LARGEST_BATCH = 64
#: Images that a distillation sees, all epochs together.
NUM_SEEN = dict(cpu=200_000, cuda=2_000_000)
MAX_EPOCHS = 200


class Teacher(NamedTuple):
    """A teacher for a config.

    Attributes:
        base: Name of a file of ``configs/_base_/teachers``.
        size: Side of its images, in pixels.
        options: Settings of ``model.teacher`` that differ from the file's.
    """

    base: str
    size: int
    options: Dict[str, Any]


def find_teacher(name: str) -> Teacher:
    """Return the teacher of a name, a folder or a hub id.

    Raises:
        ValueError: It is none of them, or the layer to distill is not known.
        OSError: The hub has no such model.
    """
    if name in find_teachers():
        cfg = Config.fromfile(TEACHERS / f'{name}.py')
        return Teacher(name, cfg.teacher_size, {})
    folder = osp.expanduser(name)
    if '/' not in name and not osp.isdir(folder):
        raise ValueError(
            f'expected --teacher to be one of {", ".join(find_teachers())}, '
            f'or the folder or hub id of a diffusers model, got {name!r}; '
            'correct it, or train one: tools/train.py '
            'configs/teacher/ddpm_custom.py'
        )
    source = osp.abspath(folder) if osp.isdir(folder) else name
    part = find_denoiser(source)
    if part.cls.__name__ not in LAYERS:
        raise ValueError(
            f'expected --teacher to be a {" or ".join(LAYERS)}, or one of '
            f'{", ".join(find_teachers())}, got the {part.cls.__name__} '
            f'{name!r}; write a config with layers that suit it '
            '(configs/distill/repfusion_custom.py)'
        )
    family = find_family(part.cls, part.config)
    with torch.device('meta'):  # without weights; for the latent_factor
        open_encoder(None, source, family, None, 'auto')
    size = resolve_image_size(None, family)
    if not isinstance(size, int):
        raise ValueError(
            f'expected a teacher of square images, got {name!r}, whose images '
            f'are {size[0]} x {size[1]}; write a config with input_size '
            '(configs/distill/repfusion_custom.py)'
        )
    layer = LAYERS[part.cls.__name__]
    return Teacher(
        'ddpm_custom', size, dict(pretrained=source, layers=[layer])
    )


def describe_training(teacher: Teacher) -> str:
    """Say for how long a teacher of this package was trained, if it is."""
    folder = teacher.options.get('pretrained', '')
    path = Path(folder, TRAINING)
    if not path.is_file():
        return ''
    iterations = json.loads(path.read_text(encoding='utf-8'))['iterations']
    return (
        f'This teacher was trained for {iterations} iterations. To train it '
        'longer, resume its training with a larger train_cfg.max_iters.\n'
    )


def choose_student(words: Optional[Sequence[str]], size: int) -> dict:
    """Return the config of a student.

    Args:
        words: A type, such as ``mmpretrain.ResNet``, and ``key=value``; or
            the path of a config, whose backbone is taken.
        size: Side of the images, in pixels.

    Raises:
        ValueError: There is no type, it is not registered, an argument has no
            value, or the config cannot be read or has no backbone.
    """
    if not words:
        small = size <= SMALL_SIDE
        name = 'mmpretrain.ResNet_CIFAR' if small else 'mmpretrain.ResNet'
        return dict(type=name, depth=18)
    kind, *arguments = words
    if is_config(words):
        return make_trainable(read_backbone(kind))
    wrong = [word for word in arguments if '=' not in word]
    if '=' in kind or '.' not in kind or wrong:
        raise ValueError(
            'expected --student TYPE key=value ..., such as mmpretrain.ResNet '
            'depth=50, or a config of the project that finetunes it, got '
            f'{" ".join(words)!r}; correct it'
        )
    values: dict = {}
    if arguments:
        parser = argparse.ArgumentParser()
        add_cfg_options(parser)
        values = parser.parse_args(['--cfg-options', *arguments]).cfg_options
    student = Config(dict(type=kind))
    student.merge_from_dict(values)  # of a.b=1, too
    return make_trainable(student.to_dict())


def is_config(words: Optional[Sequence[str]]) -> bool:
    """Return whether ``--student`` names a config."""
    return words is not None and len(words) == 1 and words[0][-3:] == '.py'


def make_trainable(student: dict) -> dict:
    """Let batch norms of the student be trained (``norm_eval=False``).

    Backbones of mmdet keep them in eval mode by default, for pretrained
    weights, which a student does not have.

    Raises:
        ValueError: The type of the student is not registered.
    """
    found = resolve_type(student, MODELS)
    if found is None:
        raise ValueError(
            f'expected a registered backbone as --student, got '
            f'{student["type"]!r}; correct it, or install its project'
        )
    default = inspect.signature(found).parameters.get('norm_eval')
    is_free = default is not None and default.default is False
    if 'norm_eval' in init_arguments(found) and not is_free:
        student.setdefault('norm_eval', False)
    return student


def read_backbone(path: str) -> dict:
    """Return the backbone of a finetuning config, without its init_cfg.

    Raises:
        ValueError: The config cannot be read, has no ``model.backbone``, or
            one whose backbone is inside another one.
    """
    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # of its own code, or of a base
        raise ValueError(
            f'expected a config as --student, got {path}: '
            f'{type(error).__name__}: {error}; correct it'
        ) from error
    model = cfg.get('model')
    backbone = model.get('backbone') if isinstance(model, dict) else None
    is_nested = 'backbone_cfg' in (backbone or {})
    if is_nested or not backbone or 'type' not in backbone:
        raise ValueError(
            f'expected model.backbone=dict(type=...) in {path}, got '
            f'{"backbone_cfg in it" if is_nested else repr(backbone)}; give '
            '--student TYPE key=value ...'
        )
    if not isinstance(backbone['type'], str):
        raise ValueError(
            f'expected --student to be a config without lazy imports, got '
            f'{path}, from which no other config can inherit; give --student '
            'TYPE key=value ...'
        )
    student: Dict[str, Any] = backbone.to_dict()
    for name in ('init_cfg', '_scope_', 'pretrained'):
        student.pop(name, None)
    if '.' not in student['type']:
        scope = backbone.get('_scope_', cfg.get('default_scope', 'mmengine'))
        student['type'] = f'{scope}.{student["type"]}'
    norm_cfg = student.get('norm_cfg') or {}
    if norm_cfg.get('type') == 'SyncBN':
        norm_cfg['type'] = 'BN'  # of the same tensors
    if norm_cfg.get('requires_grad') is False:
        norm_cfg['requires_grad'] = True
    student.pop('norm_eval', None)
    if student.get('frozen_stages', -1) >= 0:
        student['frozen_stages'] = -1
    return student


def choose_length(num_images: int) -> Tuple[int, int]:
    """Return the batch size and the number of epochs."""
    batch_size = min(LARGEST_BATCH, max(4, num_images // 4))
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    epochs = round(NUM_SEEN[device] / num_images)
    return batch_size, min(max(epochs, 1), MAX_EPOCHS)
