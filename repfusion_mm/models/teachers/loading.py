"""Load a denoiser and its noise schedule strictly."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any, Optional, Tuple

import safetensors.torch  # noqa: F401  # diffusers 0.32 does not import it
from mmengine.dist import broadcast
from mmengine.logging import print_log


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
    """Load a diffusers denoiser from a local folder or a hub id.

    The denoiser is in the folder itself or in its sub-folder ``unet``.

    Raises:
        OSError: The folder or the hub id has no denoiser.
        ValueError: The weights cannot be read, or do not match the
            architecture.
    """
    subfolder, config = _find_denoiser(pretrained)
    name = config.get('_class_name')
    print_log(f'teacher: {pretrained} ({name})', logger='current')
    denoiser_class = _diffusers_class(name, 'model', 'UNet2DModel')
    try:
        denoiser, report = denoiser_class.from_pretrained(
            pretrained,
            subfolder=subfolder,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    except Exception as error:  # safetensors, pickle and torch raise many
        reason = ' '.join(str(error).split())[:300]
        raise _mismatch(pretrained, reason) from error
    mismatches = {
        kind: report[kind]
        for kind in ('missing_keys', 'unexpected_keys', 'mismatched_keys')
        if report.get(kind)
    }
    if mismatches:
        raise _mismatch(pretrained, mismatches)
    return denoiser.float()  # the file may be in half precision


def build_denoiser(config: dict) -> Any:
    """Build a diffusers denoiser with random weights from its config."""
    config = dict(config)
    name = config.pop('type', None)
    return _diffusers_class(name, 'model', 'UNet2DModel')(**config)


def load_scheduler(pretrained: str) -> Any:
    """Load the noise schedule of a denoiser.

    It is in the folder itself or in its sub-folder ``scheduler``.

    Raises:
        FileNotFoundError: There is no ``scheduler_config.json``.
        ValueError: The file is damaged.
    """
    from diffusers import DDPMScheduler

    try:
        _, config = _find_config(DDPMScheduler, pretrained, 'scheduler')
    except OSError as error:
        raise FileNotFoundError(
            'expected scheduler_config.json with the denoiser '
            f'{pretrained!r}, got none; set model.teacher.scheduler=dict('
            "type='DDPMScheduler', num_train_timesteps=...) to the schedule "
            'of its training'
        ) from error
    try:
        return DDPMScheduler.from_config(config)
    except Exception as error:  # torch and numpy raise many
        raise _damaged(DDPMScheduler, pretrained, error) from error


def build_scheduler(config: dict) -> Any:
    """Build a diffusers scheduler from ``type`` and its arguments."""
    config = dict(config)
    name = config.pop('type', None)
    return _diffusers_class(name, 'scheduler', 'DDPMScheduler')(**config)


def _diffusers_class(name: object, kind: str, example: str) -> Any:
    """Return the diffusers model or scheduler called ``name``."""
    import diffusers

    bases = dict(model='ModelMixin', scheduler='SchedulerMixin')
    cls = getattr(diffusers, str(name), None)
    base = getattr(diffusers, bases[kind])
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise ValueError(
            f"expected 'type' to be a diffusers {kind} such as {example!r}, "
            f'got {name!r}'
        )
    return cls


def _find_config(
    owner: Any, pretrained: str, subfolder: str
) -> Tuple[Optional[str], dict]:
    """Return the folder of a diffusers class's config (None or ``subfolder``)
    and the config; raise an OSError if it is in neither."""
    for place in (None, subfolder):
        try:
            config = owner.load_config(pretrained, subfolder=place)
        except OSError as error:
            if Path(pretrained, place or '', owner.config_name).is_file():
                raise _damaged(owner, pretrained, error) from error
            missing = error
            continue
        if not isinstance(config, dict):
            raise _damaged(owner, pretrained, type(config).__name__)
        return place, config
    raise missing


def _find_denoiser(pretrained: str) -> Tuple[Optional[str], dict]:
    """Return the sub-folder that holds the denoiser, and its config."""
    from diffusers import UNet2DModel

    if not isinstance(pretrained, (str, Path)) or not str(pretrained):
        raise ValueError(
            'expected teacher.pretrained to be a hub id or a folder, got '
            f'{pretrained!r}'
        )
    local = Path(pretrained).is_dir()
    if not local and not re.fullmatch(r'[\w.-]+/[\w.-]+', str(pretrained)):
        raise FileNotFoundError(
            f'expected a folder with a diffusers denoiser at {pretrained!r}, '
            'got no such folder; train one with tools/train.py '
            'configs/teacher/..., convert a guided-diffusion checkpoint with '
            'tools/model_converters/guided_diffusion_to_diffusers.py, or set '
            'model.teacher.pretrained to a hub id or to a folder that exists'
        )
    try:
        return _find_config(UNet2DModel, pretrained, 'unet')
    except OSError as error:
        if local:
            raise FileNotFoundError(
                f'expected config.json in {pretrained!r} or in its sub-folder '
                "'unet', got neither; set model.teacher.pretrained to a "
                'folder that save_pretrained wrote'
            ) from error
        raise ConnectionError(
            f'expected the denoiser {pretrained!r} on this disk or on the '
            'hub, got neither (there is no such folder, it is not in the '
            'cache, and the hub did not return it). On a machine with a '
            f'network, run\n    hf download {pretrained} --local-dir TEACHER\n'
            'copy the folder TEACHER to this machine, and add\n'
            '    --cfg-options model.teacher.pretrained=TEACHER'
        ) from error


def _damaged(owner: Any, pretrained: str, got: object) -> ValueError:
    return ValueError(
        f'expected {owner.config_name} of {str(pretrained)!r} in the format '
        'of diffusers, got a damaged file '
        f'({" ".join(str(got).split())[:200]}); fetch the folder again'
    )


def _mismatch(pretrained: str, got: object) -> ValueError:
    return ValueError(
        f'expected weights in {str(pretrained)!r} that can be read safely and '
        f'match its config.json, got {got}; the download is incomplete or '
        'mixes two models: fetch the folder again'
    )
