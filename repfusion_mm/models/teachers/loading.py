"""Load a denoiser and its noise schedule strictly."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path
from typing import Any, List, Optional

import torch
from mmengine.dist import broadcast
from mmengine.logging import print_log

from repfusion_mm.models.teachers.folders import (
    DENOISERS,
    Part,
    diffusers_class,
    find_models,
    find_part,
)
from repfusion_mm.models.teachers.hub import fetch, fetch_weights
from repfusion_mm.models.teachers.layers import check_config
from repfusion_mm.models.teachers.noise_schedule import (
    build_scheduler,
    load_scheduler,
)
from repfusion_mm.models.teachers.weights import (
    build_empty,
    load_weights,
    locate_weights,
)


def load_teacher(
    pretrained: Optional[str],
    config: Optional[dict],
    scheduler: Optional[dict],
) -> tuple:
    """Return a denoiser and its scheduler; see ``DiffusersTeacher``."""
    if (pretrained is None) == (config is None):
        raise ValueError(
            'expected exactly one of teacher.pretrained and teacher.config, '
            f'got pretrained={pretrained!r} and config={config!r}'
        )
    if config is not None:
        print_log(
            'teacher: RANDOM weights from a config, no weights are loaded',
            logger='current',
            level=logging.WARNING,
        )
        denoiser = build_denoiser(config)
        for value in denoiser.state_dict().values():
            broadcast(value)  # the seeds of the ranks may differ
        return denoiser, build_scheduler(
            scheduler or dict(type='DDPMScheduler')
        )
    assert pretrained is not None
    denoiser = load_denoiser(pretrained)
    if scheduler is not None:
        return denoiser, build_scheduler(scheduler)
    return denoiser, load_scheduler(pretrained)


def load_denoiser(pretrained: str) -> Any:
    """Load a complete diffusers denoiser from a local folder or a hub id.

    Raises:
        OSError: The folder or the hub id has no denoiser.
        ValueError: The weights cannot be read, do not match the
            architecture, or are not finite.
    """
    part = find_denoiser(pretrained)
    denoiser = build_empty(part.cls, part.config)
    folder = fetch_weights(pretrained, part)
    locations = locate_weights(denoiser, folder)
    log_part(part)
    load_weights(denoiser, locations, torch.float32)
    return denoiser


def log_part(part: Part) -> None:
    """Log what a user should know of a denoiser that was found."""
    print_log(f'teacher: {part.folder} ({part.cls.__name__})', 'current')
    others = find_others(part)
    if others:
        print_log(
            f'teacher: not used are {others}, of the same class; to use one, '
            'set model.teacher.pretrained to it',
            logger='current',
            level=logging.WARNING,
        )
    known = inspect.signature(part.cls).parameters
    ignored = [k for k in part.config if k[0] != '_' and k not in known]
    if ignored:
        print_log(
            f'teacher: this version of diffusers ignores {ignored} of '
            f'config.json in {str(part.folder)!r}; features may differ: use '
            'the version that wrote it '
            f'({part.config.get("_diffusers_version")})',
            logger='current',
            level=logging.WARNING,
        )


def find_others(part: Part) -> List[str]:
    """Return folders of the same pipeline with a model of the same class."""
    if not part.name:
        return []
    name = part.config['_class_name']
    return [
        str(file.parent)
        for file in sorted(part.folder.parent.glob('*/config.json'))
        if file.parent != part.folder
        and f'"{name}"' in file.read_text(encoding='utf-8', errors='replace')
    ]


def build_denoiser(config: dict) -> Any:
    """Build a diffusers denoiser with random weights from its config."""
    config = dict(config)
    return diffusers_class(config.pop('type', None), 'model')(**config)


def find_denoiser(pretrained: str) -> Part:
    """Return the denoiser of a pipeline, its class and its config.

    Raises:
        OSError: The folder or the hub id has no model.
        ValueError: Its model is not a denoiser of RGB images.
    """
    folder = fetch(pretrained)
    try:
        part = find_part(folder)
    except OSError as error:
        advice = ' or '.join(map(repr, find_denoisers(folder)[:5]))
        raise FileNotFoundError(
            f'expected config.json in {str(pretrained)!r} or in its '
            f'sub-folder {" or ".join(map(repr, DENOISERS))}, got neither; '
            'set model.teacher.pretrained to '
            f'{advice or "a folder that save_pretrained wrote"}'
        ) from error
    check_config(part.cls, part.config, str(part.folder))
    return part


def find_denoisers(folder: Path) -> List[str]:
    """Return sub-folders of a folder that can be teachers.

    Raises:
        ValueError: There are only models that cannot.
    """
    found: List[str] = []
    refused: Optional[Exception] = None
    for place in find_models(folder):
        try:
            find_denoiser(place)
            found.append(place)
        except (ImportError, OSError, ValueError) as error:
            refused = refused or error
    if refused and not found:
        raise refused
    return found
