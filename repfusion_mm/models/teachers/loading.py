"""Load a denoiser and its noise schedule, wholly or not at all."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Optional, Tuple

import safetensors.torch  # noqa: F401  # diffusers 0.32 leaves that to others
import torch.nn as nn
from mmengine.dist import broadcast
from mmengine.logging import print_log


def load_teacher(
    pretrained: Optional[str],
    config: Optional[dict],
    scheduler: Optional[dict],
) -> tuple:
    """Return the denoiser and its scheduler, loaded or built at random.

    Raises:
        ValueError: Not exactly one of ``pretrained`` and ``config``.
    """
    if (pretrained is None) == (config is None):
        raise ValueError(
            'expected exactly one of teacher.pretrained and teacher.config, '
            f'got pretrained={pretrained!r} and config={config!r}'
        )
    if config is not None:
        print_log(
            'teacher: RANDOM weights from a config, nothing was loaded',
            logger='current',
            level=logging.WARNING,
        )
        default = dict(type='DDPMScheduler')
        denoiser = build_denoiser(config)
        for value in denoiser.state_dict().values():
            broadcast(value)  # one teacher, whatever seed a rank has
        return denoiser, build_scheduler(scheduler or default)
    denoiser = load_denoiser(pretrained)
    if scheduler is not None:
        return denoiser, build_scheduler(scheduler)
    return denoiser, load_scheduler(pretrained)


def load_denoiser(pretrained: str) -> nn.Module:
    """Load a diffusers denoiser from a local folder or a hub id.

    Weights may lie beside ``config.json`` or in the sub-folder ``unet``, as
    ``UNet2DModel.save_pretrained`` and ``DDPMPipeline.save_pretrained``
    write them.

    Raises:
        OSError: The folder or the hub id gives no denoiser.
        ValueError: The weights cannot be read, or do not cover the
            architecture.
    """
    subfolder, config = _find_config(pretrained)
    denoiser_class = _denoiser_class(config)
    try:
        denoiser, report = denoiser_class.from_pretrained(
            pretrained,
            subfolder=subfolder,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    except Exception as error:  # of safetensors, of pickle, of a shape
        reason = ' '.join(str(error).split())[:300]
        raise ValueError(
            f'expected weights in {str(pretrained)!r} that can be read '
            f'safely and fit its config.json, got {reason}; the download is '
            'incomplete, or mixed of two: fetch the folder again'
        ) from error
    faults = {
        kind: report[kind]
        for kind in ('missing_keys', 'unexpected_keys', 'mismatched_keys')
        if report.get(kind)
    }
    if faults:
        raise ValueError(
            f'expected the weights in {pretrained!r} to fit their own '
            f'config.json, got {faults}; the download is incomplete or mixed: '
            'fetch the folder again'
        )
    return denoiser.float()  # the file may hold half precision


def build_denoiser(config: dict) -> nn.Module:
    """Build a diffusers denoiser with random weights from its config.

    Args:
        config: ``type`` (a diffusers class name) and its arguments.
    """
    config = dict(config)
    kind = config.pop('type', None)
    return _denoiser_class({'_class_name': kind})(**config)


def load_scheduler(pretrained: str):
    """Load the noise schedule that lies with a denoiser.

    It is looked for in ``scheduler_config.json`` beside the weights or in the
    sub-folder ``scheduler``.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is damaged.
    """
    from diffusers import DDPMScheduler

    for subfolder in (None, 'scheduler'):
        try:
            config = _load_config(DDPMScheduler, pretrained, subfolder)
        except OSError:
            continue
        try:
            return DDPMScheduler.from_config(config)
        except Exception as error:  # of torch, of numpy
            raise _damaged(DDPMScheduler, pretrained, error) from error
    raise FileNotFoundError(
        f'expected scheduler_config.json with the denoiser {pretrained!r}, '
        "got none; give the teacher scheduler=dict(type='DDPMScheduler', "
        'num_train_timesteps=...) as the denoiser was trained'
    )


def _load_config(owner: type, pretrained: str, subfolder: Optional[str]):
    """Return the config of a class of diffusers.

    Raises:
        OSError: There is none.
        ValueError: It is damaged.
    """
    try:
        config = owner.load_config(pretrained, subfolder=subfolder)
    except OSError as error:
        if Path(pretrained, subfolder or '', owner.config_name).is_file():
            raise _damaged(owner, pretrained, error) from error
        raise
    if not isinstance(config, dict):
        raise _damaged(owner, pretrained, type(config).__name__)
    return config


def _damaged(owner: type, pretrained: str, got: object) -> ValueError:
    return ValueError(
        f'expected {owner.config_name} of {str(pretrained)!r} as diffusers '
        f'writes it, got {" ".join(str(got).split())[:200]}; fetch the '
        'folder again'
    )


def build_scheduler(config: dict):
    """Build a diffusers scheduler from ``type`` and its arguments.

    Raises:
        ValueError: diffusers has no such scheduler.
    """
    import diffusers

    config = dict(config)
    kind = config.pop('type', None)
    cls = getattr(diffusers, str(kind), None)
    if not (isinstance(cls, type) and issubclass(cls, _scheduler_mixin())):
        raise ValueError(
            'expected scheduler.type to be a diffusers scheduler such as '
            f"'DDPMScheduler', got {kind!r}"
        )
    return cls(**config)


def _scheduler_mixin() -> type:
    from diffusers import SchedulerMixin

    return SchedulerMixin


def _denoiser_class(config: dict) -> type:
    import diffusers

    kind = config.get('_class_name')
    cls = getattr(diffusers, str(kind), None)
    if not (isinstance(cls, type) and issubclass(cls, diffusers.ModelMixin)):
        raise ValueError(
            'expected the denoiser to be a diffusers model such as '
            f"'UNet2DModel', got {kind!r}"
        )
    return cls


def _find_config(pretrained: str) -> Tuple[Optional[str], dict]:
    """Return the sub-folder that holds the denoiser, and its config."""
    from diffusers import UNet2DModel

    if not isinstance(pretrained, (str, Path)) or not str(pretrained):
        raise ValueError(
            'expected teacher.pretrained to be a hub id or a folder, got '
            f'{pretrained!r}'
        )
    local = Path(pretrained).is_dir()
    is_hub_id = re.fullmatch(r'[\w.-]+/[\w.-]+', str(pretrained)) is not None
    if not local and not is_hub_id:
        raise FileNotFoundError(
            f'expected a folder with a diffusers denoiser at {pretrained!r}, '
            'got no such folder; train one with tools/train.py '
            'configs/teacher/..., convert a guided-diffusion checkpoint with '
            'tools/model_converters/guided_diffusion_to_diffusers.py, or set '
            'model.teacher.pretrained to a hub id or to a folder that exists'
        )
    reasons = []
    for subfolder in (None, 'unet'):
        try:
            config = _load_config(UNet2DModel, pretrained, subfolder)
        except OSError as error:
            reasons.append(error)
            continue
        print_log(
            f'teacher: {pretrained} ({config.get("_class_name")})',
            logger='current',
        )
        return subfolder, config
    if local:
        raise FileNotFoundError(
            f'expected config.json in {pretrained!r} or in its sub-folder '
            "'unet', got neither; give the folder that save_pretrained wrote"
        ) from reasons[0]
    raise ConnectionError(
        f'expected the denoiser {pretrained!r} on this disk or on the hub, '
        'got neither (there is no such folder, nothing is cached, and the hub '
        'did not answer with it). On a machine with a network run\n'
        f'    hf download {pretrained} --local-dir TEACHER\n'
        'copy the folder TEACHER here, and add\n'
        '    --cfg-options model.teacher.pretrained=TEACHER'
    ) from reasons[0]
