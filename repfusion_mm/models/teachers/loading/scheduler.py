"""Load the scheduler of a denoiser."""

from __future__ import annotations

import logging
from typing import Any, Optional

import torch
from mmengine.logging import print_log

from repfusion_mm.models.teachers.families import DenoiserFamily
from repfusion_mm.models.teachers.loading.folders import (
    damaged_config,
    diffusers_class,
    find_config,
    find_pipelines,
)
from repfusion_mm.models.teachers.loading.hub import fetch

#: The setting of a teacher's schedule.
TEACHER = 'model.teacher.scheduler'
#: Settings of the noise schedule of DDPM.
BETAS = ('beta_schedule', 'beta_start', 'beta_end')
#: Settings that decide how much noise a timestep means.
SCHEDULE = (
    'num_train_timesteps', *BETAS, 'trained_betas', 'rescale_betas_zero_snr'
)  # fmt: skip


def open_scheduler(
    scheduler: Optional[dict],
    pretrained: Optional[str],
    family: DenoiserFamily,
) -> Any:
    """Return the scheduler of a teacher; see ``DiffusersTeacher``."""
    if scheduler is not None:
        given = build_scheduler(scheduler, flow_matching=family.flow_matching)
        if pretrained is not None:
            compare_schedulers(given, pretrained, family.flow_matching)
        return given
    if pretrained is not None:
        return load_scheduler(pretrained, family.flow_matching)
    name = 'FlowMatchEulerDiscrete' if family.flow_matching else 'DDPM'
    return build_scheduler(dict(type=f'{name}Scheduler'))


def compare_schedulers(
    given: Any, pretrained: str, flow_matching: bool
) -> None:
    """Log a warning if a teacher's schedule is not that of its training.

    Args:
        given: The scheduler that replaces its own.
        pretrained: Folder or hub id of the denoiser.
        flow_matching: Whether it is trained by flow matching.
    """
    try:
        own = load_scheduler(pretrained, flow_matching)
    except (OSError, ValueError):  # none, or damaged: it is replaced
        return
    differ = [
        f'{key}={given.config.get(key)} (there {own.config.get(key)})'
        for key in SCHEDULE
        if given.config.get(key) != own.config.get(key)
    ]
    if differ:
        print_log(
            f'{TEACHER} is another noise schedule than that of {pretrained}: '
            f'{", ".join(differ)}. If the denoiser was trained with its own, '
            'remove the setting',
            logger='current',
            level=logging.WARNING,
        )


def load_scheduler(
    pretrained: str, flow_matching: bool = False, setting: str = TEACHER
) -> Any:
    """Load the noise schedule of a denoiser.

    It is in the folder itself, in its sub-folder ``scheduler``, or in that of
    the pipeline which the folder is a part of.

    Args:
        pretrained: Folder or hub id.
        flow_matching: Whether the denoiser is trained by flow matching.
        setting: The setting that replaces the file, for errors.

    Raises:
        FileNotFoundError: There is no ``scheduler_config.json``.
        ValueError: The file is damaged, or names no scheduler of diffusers.
    """
    config = load_scheduler_config(pretrained, flow_matching, setting)
    cls = diffusers_class(config.pop('type'), 'scheduler')
    try:
        with torch.device('cpu'):
            return cls.from_config(config)
    except ImportError:
        raise
    except Exception as error:  # torch and numpy raise many
        raise damaged_config(cls, pretrained, error) from error


def load_scheduler_config(
    pretrained: str, flow_matching: bool = False, setting: str = TEACHER
) -> dict:
    """Return ``type`` and arguments in the ``scheduler_config.json``."""
    from diffusers import DDPMScheduler

    folder = fetch(pretrained)
    for place in (folder, *find_pipelines(folder)):
        try:
            _, config = find_config(DDPMScheduler, str(place), 'scheduler')
        except OSError as error:
            missing = error
            continue
        if place != folder:
            print_log(f'teacher: scheduler of {place}', logger='current')
        missing_betas = [key for key in BETAS if key not in config]
        if missing_betas and not (
            flow_matching or config.get('trained_betas')
        ):
            print_log(
                f'teacher: no {missing_betas} in the scheduler_config.json of '
                f"{place}; diffusers' defaults are used, which may be other "
                'noise than that of its training',
                logger='current',
                level=logging.WARNING,
            )
        return dict(config, type=config.get('_class_name'))
    raise FileNotFoundError(
        'expected scheduler_config.json with the denoiser '
        f'{str(pretrained)!r}, got none; {advise(setting, flow_matching)}'
    ) from missing


def build_scheduler(
    config: Optional[dict], setting: str = TEACHER, flow_matching: bool = False
) -> Any:
    """Build a diffusers scheduler from ``type`` and its arguments.

    Raises:
        ValueError: It is not the config of a scheduler; the message names the
            ``setting``.
    """
    if not isinstance(config, dict):
        raise ValueError(
            f'expected {setting} to be a dict, got {config!r}; '
            f'{advise(setting, flow_matching)}'
        )
    arguments = dict(config)
    cls = diffusers_class(arguments.pop('type', None), 'scheduler')
    try:
        with torch.device('cpu'):  # values are read, also for meta tensors
            return cls(**arguments)
    except Exception as error:  # torch and numpy raise many
        reason = ' '.join(str(error).split())[:200]
        raise ValueError(
            f'expected arguments of {cls.__name__} in {setting}, got '
            f'{str(arguments)[:200]} ({reason}); correct them'
        ) from error


def advise(setting: str, flow_matching: bool = False) -> str:
    """Return how to set the scheduler that a denoiser was trained with."""
    if flow_matching:
        return f"set {setting}=dict(type='FlowMatchEulerDiscreteScheduler')"
    another = 'choose another teacher, or ' if setting == TEACHER else ''
    # The defaults of DDPMScheduler are other noise than Stable Diffusion's.
    return (
        f"{another}set {setting}=dict(type='DDPMScheduler', "
        'num_train_timesteps=..., beta_schedule=..., beta_start=..., '
        "beta_end=...) to the schedule of its training ('scaled_linear', "
        "0.00085 and 0.012 for Stable Diffusion, 'linear', 0.0001 and 0.02 "
        'for DDPM)'
    )
