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
    """Return a denoiser and its scheduler.

    Args:
        pretrained: Folder or hub id of a denoiser, or None.
        config: Config of a denoiser with random weights, or None.
        scheduler: Config of the scheduler; by default the one in the folder
            of ``pretrained``, or a ``DDPMScheduler``.

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
            'teacher: RANDOM weights from a config, no weights are loaded',
            logger='current',
            level=logging.WARNING,
        )
        default = dict(type='DDPMScheduler')
        denoiser = build_denoiser(config)
        for value in denoiser.state_dict().values():
            broadcast(value)  # the seeds of the ranks may differ
        return denoiser, build_scheduler(scheduler or default)
    assert pretrained is not None
    denoiser = load_denoiser(pretrained)
    if scheduler is not None:
        return denoiser, build_scheduler(scheduler)
    return denoiser, load_scheduler(pretrained)


def load_denoiser(pretrained: str) -> Any:
    """Load a diffusers denoiser from a local folder or a hub id.

    The denoiser is in the folder itself or in its sub-folder ``unet``, as
    written by ``UNet2DModel.save_pretrained`` and
    ``DDPMPipeline.save_pretrained``.

    Raises:
        OSError: The folder or the hub id has no denoiser.
        ValueError: The weights cannot be read, or do not match the
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
    except Exception as error:  # safetensors, pickle and torch raise many
        reason = ' '.join(str(error).split())[:300]
        raise ValueError(
            f'expected weights in {str(pretrained)!r} that can be read '
            f'safely and match its config.json, got {reason}; the download is '
            'incomplete or mixes two models: fetch the folder again'
        ) from error
    mismatches = {
        kind: report[kind]
        for kind in ('missing_keys', 'unexpected_keys', 'mismatched_keys')
        if report.get(kind)
    }
    if mismatches:
        raise ValueError(
            f'expected the weights in {pretrained!r} to match their own '
            f'config.json, got {mismatches}; the download is incomplete or '
            'mixes two models: fetch the folder again'
        )
    return denoiser.float()  # the file may be in half precision


def build_denoiser(config: dict) -> Any:
    """Build a diffusers denoiser with random weights from its config.

    Args:
        config: ``type`` (a diffusers class name) and its arguments.
    """
    config = dict(config)
    kind = config.pop('type', None)
    return _denoiser_class({'_class_name': kind})(**config)


def load_scheduler(pretrained: str):
    """Load the noise schedule of a denoiser.

    It is ``scheduler_config.json`` in the folder itself or in its sub-folder
    ``scheduler``.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is damaged.
    """
    from diffusers import DDPMScheduler

    for subfolder in (None, 'scheduler'):
        try:
            config = _load_config(DDPMScheduler, pretrained, subfolder)
        except OSError:
            continue
        try:
            return DDPMScheduler.from_config(config)
        except Exception as error:  # torch and numpy raise many
            raise _damaged(DDPMScheduler, pretrained, error) from error
    raise FileNotFoundError(
        f'expected scheduler_config.json with the denoiser {pretrained!r}, '
        "got none; set model.teacher.scheduler=dict(type='DDPMScheduler', "
        'num_train_timesteps=...) to the schedule of its training'
    )


def _load_config(owner: Any, pretrained: str, subfolder: Optional[str]):
    """Load the config file of a diffusers class.

    Raises:
        OSError: The file does not exist.
        ValueError: The file is damaged.
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


def _damaged(owner: Any, pretrained: str, got: object) -> ValueError:
    return ValueError(
        f'expected {owner.config_name} of {str(pretrained)!r} in the format '
        'of diffusers, got a damaged file '
        f'({" ".join(str(got).split())[:200]}); fetch the folder again'
    )


def build_scheduler(config: dict):
    """Build a diffusers scheduler from ``type`` and its arguments.

    Raises:
        ValueError: diffusers has no such scheduler.
    """
    import diffusers
    from diffusers import SchedulerMixin

    config = dict(config)
    kind = config.pop('type', None)
    cls = getattr(diffusers, str(kind), None)
    if not (isinstance(cls, type) and issubclass(cls, SchedulerMixin)):
        raise ValueError(
            'expected scheduler.type to be a diffusers scheduler such as '
            f"'DDPMScheduler', got {kind!r}"
        )
    return cls(**config)


def _denoiser_class(config: dict) -> Any:
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
            "'unet', got neither; set model.teacher.pretrained to a folder "
            'that save_pretrained wrote'
        ) from reasons[0]
    raise ConnectionError(
        f'expected the denoiser {pretrained!r} on this disk or on the hub, '
        'got neither (there is no such folder, it is not in the cache, and '
        'the hub did not return it). On a machine with a network, run\n'
        f'    hf download {pretrained} --local-dir TEACHER\n'
        'copy the folder TEACHER to this machine, and add\n'
        '    --cfg-options model.teacher.pretrained=TEACHER'
    ) from reasons[0]
