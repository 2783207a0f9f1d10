"""Load a denoiser and its noise schedule strictly."""

from __future__ import annotations

import contextlib
import inspect
import logging
import os.path as osp
import re
from functools import partial
from pathlib import Path
from typing import Any, List, Optional, Tuple

import safetensors.torch  # noqa: F401  # diffusers 0.32 does not import it
from mmengine.dist import broadcast
from mmengine.logging import print_log

from repfusion_mm.models.teachers.folders import (
    check_pipeline,
    diffusers_class,
    find_config,
    find_integers,
    find_models,
    find_weights,
)
from repfusion_mm.models.teachers.layers import check_config
from repfusion_mm.models.teachers.noise_schedule import (
    build_scheduler,
    load_scheduler,
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
    """Load a diffusers denoiser from a local folder or a hub id.

    The denoiser is in the folder itself or in its sub-folder ``unet``.

    Raises:
        OSError: The folder or the hub id has no denoiser.
        ValueError: The weights cannot be read, do not match the
            architecture, or are not finite.
    """
    subfolder, config = find_denoiser(pretrained)
    pretrained = osp.expanduser(pretrained)
    name = config['_class_name']
    cls = diffusers_class(name, 'model')
    part = subfolder or osp.basename(osp.abspath(pretrained))
    check_pipeline(pretrained, part, name)
    denoiser, report = read_weights(cls, pretrained, subfolder)
    folder = find_folder(pretrained, subfolder)
    others = find_others(folder, name) if subfolder and folder else []
    if others:
        print_log(
            f'teacher: not used are {others}, of the same class; to use one, '
            'set model.teacher.pretrained to it',
            logger='current',
            level=logging.WARNING,
        )
    integers = find_integers(folder) if folder else []
    if integers:
        raise _mismatch(
            pretrained, f'integers, quantized weights, in {integers[:3]}'
        )
    mismatches = {
        kind: report[kind]
        for kind in ('missing_keys', 'unexpected_keys', 'mismatched_keys')
        if report.get(kind)
    }
    if mismatches:
        raise _mismatch(pretrained, mismatches)
    state = denoiser.float().state_dict()  # the file may be in half precision
    not_finite = [k for k, v in state.items() if not v.isfinite().all()]
    if not_finite:
        raise _mismatch(pretrained, f'NaN or Inf in {not_finite[:3]}')
    known = inspect.signature(cls).parameters
    ignored = [key for key in config if key[0] != '_' and key not in known]
    if ignored:
        print_log(
            f'teacher: this version of diffusers ignores {ignored} of '
            f'config.json in {pretrained!r}; features may differ: use the '
            f'version that wrote it ({config.get("_diffusers_version")})',
            logger='current',
            level=logging.WARNING,
        )
    return denoiser


def read_weights(
    cls: Any, pretrained: str, subfolder: Optional[str]
) -> Tuple[Any, dict]:
    """Return a model of a diffusers class, and what of it was not loaded.

    Without a network, the cache of the hub is read as a folder, if it holds
    weights that ``from_pretrained`` does not find, such as a variant.
    """
    load = partial(
        cls.from_pretrained,
        low_cpu_mem_usage=False,
        output_loading_info=True,
    )
    place = osp.join(pretrained, subfolder) if subfolder else pretrained
    is_folder = Path(pretrained).is_dir()
    how = find_weights(Path(place)) if is_folder else {}
    try:
        try:
            loaded = load(pretrained, subfolder=subfolder, **how)
        except OSError:
            cached = find_folder(pretrained, subfolder)
            if is_folder or cached is None:
                raise
            with contextlib.suppress(ValueError):  # no weights in the cache
                how = find_weights(cached)
            if not how:
                raise
            loaded = load(str(cached), **how)
    except Exception as error:  # safetensors, pickle and torch raise many
        if not is_folder and not how and isinstance(error, OSError):
            raise _unreachable(pretrained, 'the weights of') from error
        reason = ' '.join(str(error).split())[:300]
        raise _mismatch(pretrained, reason) from error
    variant = f', variant {how["variant"]}' if how.get('variant') else ''
    print_log(f'teacher: {place} ({cls.__name__}{variant})', logger='current')
    return loaded


def find_others(folder: Path, name: str) -> List[str]:
    """Return folders next to a denoiser's with a model of its class."""
    return [
        str(file.parent)
        for file in sorted(folder.parent.glob('*/config.json'))
        if file.parent != folder
        and f'"{name}"' in file.read_text(encoding='utf-8', errors='replace')
    ]


def find_folder(pretrained: str, subfolder: Optional[str]) -> Optional[Path]:
    """Return the folder of a model, or that of a hub id in the cache."""
    if Path(pretrained).is_dir():
        return Path(pretrained, subfolder or '')
    from huggingface_hub import try_to_load_from_cache

    name = f'{subfolder}/config.json' if subfolder else 'config.json'
    file = try_to_load_from_cache(pretrained, name)
    return Path(file).parent if isinstance(file, str) else None


def build_denoiser(config: dict) -> Any:
    """Build a diffusers denoiser with random weights from its config."""
    config = dict(config)
    return diffusers_class(config.pop('type', None), 'model')(**config)


def find_denoiser(pretrained: str) -> Tuple[Optional[str], dict]:
    """Return the sub-folder that holds the denoiser, and its config.

    The sub-folder is None if the denoiser is in the folder itself.

    Raises:
        OSError: The folder or the hub id has no model.
        ValueError: Its model is not a denoiser of RGB images.
    """
    from diffusers import UNet2DModel

    if not isinstance(pretrained, (str, Path)) or not str(pretrained):
        raise ValueError(
            'expected teacher.pretrained to be a hub id or a folder, got '
            f'{pretrained!r}'
        )
    path = Path(pretrained).expanduser()
    is_id = re.fullmatch(r'[\w.-]+/[\w.-]+', str(pretrained))
    if path.is_file() or not (path.is_dir() or is_id):
        raise _no_folder(path)
    try:
        subfolder, config = find_config(UNet2DModel, str(path), 'unet')
    except OSError as error:
        if path.is_dir():
            places = find_denoisers(path)
            advice = ' or '.join(map(repr, places[:5]))
            raise FileNotFoundError(
                f'expected config.json in {pretrained!r} or in its sub-folder '
                "'unet', got neither; set model.teacher.pretrained to "
                f'{advice or "a folder that save_pretrained wrote"}'
            ) from error
        if Path(path.parts[0]).is_dir():  # a folder, not a user of the hub
            raise _no_folder(path) from error
        raise _unreachable(str(pretrained), 'the denoiser') from error
    cls = diffusers_class(config['_class_name'], 'model')
    check_config(cls, config, str(path / (subfolder or '')))
    return subfolder, config


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


def _no_folder(path: Path) -> FileNotFoundError:
    expected = f'expected a folder with a diffusers denoiser at {str(path)!r}'
    for name in ('config.json', 'model_index.json'):
        if path.is_file() and path.with_name(name).is_file():
            return FileNotFoundError(
                f'{expected}, got a file; set model.teacher.pretrained to '
                f'its folder, {str(path.parent)!r}'
            )
    got = 'a file' if path.is_file() else 'no such folder'
    return FileNotFoundError(
        f'{expected}, got {got} in {str(Path.cwd())!r}; train one with '
        'tools/train.py configs/teacher/..., convert a guided-diffusion '
        'checkpoint with '
        'tools/model_converters/guided_diffusion_to_diffusers.py, or set '
        'model.teacher.pretrained to a hub id or to a folder that exists'
    )


def _unreachable(pretrained: str, what: str) -> ConnectionError:
    return ConnectionError(
        f'expected {what} {pretrained!r} on this disk or on the '
        f'hub, got neither (there is no folder {pretrained} in {Path.cwd()}, '
        'it is not in the cache, and the hub did not return it); if it is a '
        'folder, correct its path; if it is on the hub, run "hf download '
        f'{pretrained} --local-dir TEACHER" on a machine with a network, copy '
        'the folder TEACHER to this machine, and add --cfg-options '
        'model.teacher.pretrained=TEACHER'
    )


def _mismatch(pretrained: str, got: object) -> ValueError:
    return ValueError(
        f'expected weights in {str(pretrained)!r} that can be read safely and '
        f'match its config.json, got {got}; the download is incomplete or '
        'mixes two models: fetch the folder again'
    )
