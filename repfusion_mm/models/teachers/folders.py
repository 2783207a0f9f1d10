"""Find the files of a diffusers model, and check what they say of it."""

from __future__ import annotations

import json
import logging
import os
import re
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from mmengine.logging import print_log
from safetensors import safe_open

#: Base class and an example of each kind of diffusers class.
KINDS = dict(
    model=('ModelMixin', 'UNet2DModel'),
    scheduler=('SchedulerMixin', 'DDPMScheduler'),
)
WEIGHTS = re.compile(
    r'diffusion_pytorch_model(?:\.(?P<variant>\w+))?\.'
    r'(?P<format>safetensors|bin)(?:\.index(?:\.(?P<shards>\w+))?\.json)?'
)


def diffusers_class(name: object, kind: str) -> Any:
    """Return the diffusers model or scheduler called ``name``.

    Raises:
        ImportError: It needs a package that is not installed.
        ValueError: diffusers has no such class.
    """
    import diffusers

    base, example = KINDS[kind]
    cls: Any = name if isinstance(name, type) else None
    if isinstance(name, str):
        # An import path in dumped configs.
        cls = getattr(diffusers, name.split('.')[-1], None)
    if isinstance(cls, type) and issubclass(cls, getattr(diffusers, base)):
        return cls
    if type(cls).__name__ == 'DummyObject':
        cls()  # raises an ImportError that names the package
    raise ValueError(
        f"expected 'type' ('_class_name' in files) to be a diffusers {kind} "
        f'such as {example!r}, got {name!r}'
    )


def find_config(
    owner: Any, pretrained: str, subfolder: str
) -> Tuple[Optional[str], dict]:
    """Return the folder of a diffusers class's config (None or ``subfolder``)
    and the config.

    Raises:
        OSError: It is in neither.
        ValueError: It is damaged, or not a config of diffusers.
    """
    found: List[Tuple[Optional[str], dict]] = []
    for place in (None, subfolder):
        try:
            config = owner.load_config(pretrained, subfolder=place)
        except OSError as error:
            # Also a link whose target is missing.
            if os.path.lexists(
                Path(pretrained, place or '', owner.config_name)
            ):
                raise damaged_config(owner, pretrained, error) from error
            missing = error
            continue
        if not isinstance(config, dict):
            raise damaged_config(owner, pretrained, type(config).__name__)
        if config.get('_class_name'):
            return place, config
        found.append((place, config))
    if not found:
        raise missing
    raise ValueError(
        f'expected _class_name in {owner.config_name} of {str(pretrained)!r}, '
        f'got only {sorted(found[0][1])[:5]}; add the name of its class in '
        'diffusers'
    )


def find_weights(folder: Path) -> Dict[str, Any]:
    """Return the arguments of ``from_pretrained`` that read the weights.

    Weights without a variant come first, then safetensors. A variant, such as
    ``fp16``, is read if it is the only one.

    Raises:
        ValueError: There are no weights, or only those of several variants.
    """
    names = sorted(path.name for path in folder.iterdir())
    matches = list(filter(None, map(WEIGHTS.fullmatch, names)))
    found = {
        (match['variant'] or match['shards'], match['format'])
        for match in matches
    }
    variants = sorted({variant for variant, _ in found if variant})
    if not any(variant is None for variant, _ in found):
        if len(variants) != 1:
            got = f'only the variants {variants}' if variants else f'{names}'
            raise ValueError(
                f'expected diffusion_pytorch_model.safetensors in '
                f'{str(folder)!r}, got {got}; rename the file of the weights '
                'that you want, or fetch the folder again'
            )
        variant: Optional[str] = variants[0]
    else:
        variant = None
    return dict(
        variant=variant, use_safetensors=(variant, 'safetensors') in found
    )


def find_integers(folder: Path) -> List[str]:
    """Return the names of integer tensors in the safetensors of a folder.

    Only headers are read. diffusers would cast integers without their scale.
    """
    names = []
    for path in sorted(folder.glob('diffusion_pytorch_model*.safetensors')):
        try:
            with safe_open(path, 'pt') as file:
                names += [
                    key
                    for key in file.keys()  # noqa: SIM118  # not a dict
                    if file.get_slice(key).get_dtype()[0] in 'IU'
                ]
        except Exception:  # a damaged file: from_pretrained says so
            continue
    return names


def check_pipeline(pretrained: str, part: str, denoiser: str) -> None:
    """Refuse the denoiser of a pipeline that runs on latents.

    Args:
        pretrained: Folder or hub id of the pipeline or of one of its parts.
        part: Name of the denoiser in ``model_index.json``.
        denoiser: Class of the denoiser.

    Raises:
        ValueError: ``model_index.json`` is damaged, names another model, such
            as an autoencoder, or another class of the denoiser.
    """
    index = read_index(pretrained)
    parts = {
        name: value[1]
        for name, value in index.items()
        if isinstance(value, list) and len(value) == 2 and value[1]
    }
    named = parts.pop(part, denoiser)
    if named != denoiser:
        raise ValueError(
            f'expected one class of the denoiser, got {named} in '
            f'model_index.json of {str(pretrained)!r} and {denoiser} in '
            f'config.json; choose a teacher of diffusers, or correct the file'
        )
    unknown = {}
    for name, cls in parts.items():
        for kind in KINDS:
            try:
                diffusers_class(cls, kind)
                break
            except (ValueError, ImportError):
                kind = ''
        if kind == 'model' and cls != denoiser:
            raise ValueError(
                'expected a denoiser of RGB images, got that of the '
                f'{index.get("_class_name")} {str(pretrained)!r}, which works '
                f'with its {name} ({cls}); choose a pipeline of pixels, such '
                'as a DDPMPipeline'
            )
        if not kind:
            unknown[name] = cls
    if unknown:
        print_log(
            f'teacher: the pipeline has parts of other packages, {unknown}; '
            'if one of them is an autoencoder, the denoiser takes latents, '
            'and is no teacher',
            logger='current',
            level=logging.WARNING,
        )


def read_index(pretrained: str) -> dict:
    """Return the ``model_index.json`` of the pipeline, or {}.

    Raises:
        ValueError: It is damaged.
    """
    from diffusers import DiffusionPipeline

    places: List[Path] = [Path(pretrained), *find_pipelines(pretrained)]
    try:
        for place in places:
            file = place / DiffusionPipeline.config_name
            if file.is_file():
                index = json.loads(file.read_text(encoding='utf-8-sig'))
                break
        else:
            index = DiffusionPipeline.load_config(pretrained)
    except OSError:  # not a pipeline
        return {}
    except ValueError as error:
        raise damaged_config(DiffusionPipeline, pretrained, error) from error
    if not isinstance(index, dict):
        got = type(index).__name__
        raise damaged_config(DiffusionPipeline, pretrained, got)
    return index


def find_pipelines(pretrained: str) -> List[Path]:
    """Return the pipelines that contain a folder, the nearest one first.

    Trainings write ``unet`` and ``unet_ema`` into the folder of a pipeline,
    or into its sub-folders, such as ``checkpoint-500``.
    """
    folder = Path(pretrained)
    parents = folder.resolve().parents[:2] if folder.is_dir() else ()
    return [p for p in parents if (p / 'model_index.json').is_file()]


def find_models(folder: Path) -> List[str]:
    """Return sub-folders with a pipeline of diffusers, or else with a model.

    Such as ``unet_ema``, or ``snapshots/*`` in the cache of the hub.
    """
    for name in ('model_index.json', 'config.json'):
        found = [
            str(file.parent)
            for pattern in (f'*/{name}', f'*/*/{name}')
            for file in sorted(folder.glob(pattern))
            if '_class_name'
            in file.read_text(encoding='utf-8', errors='replace')
        ]
        if found:
            return found
    return []


def damaged_config(owner: Any, pretrained: str, got: object) -> ValueError:
    """Return the error of a config that cannot be read."""
    return ValueError(
        f'expected {owner.config_name} of {str(pretrained)!r} in the format '
        'of diffusers, got a damaged file '
        f'({" ".join(str(got).split())[:200]}); fetch the folder again, or, '
        'if you edited the file, save it as JSON in UTF-8 without a byte '
        'order mark'
    )
