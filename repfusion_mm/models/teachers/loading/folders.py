"""Find the files of a diffusers model, and check what they say of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, List, NamedTuple, Optional, Tuple

#: Base class and an example of each kind of diffusers class.
KINDS = dict(
    model=('ModelMixin', 'UNet2DModel'),
    scheduler=('SchedulerMixin', 'DDPMScheduler'),
    pipeline=('DiffusionPipeline', 'DDPMPipeline'),
)
#: Classes that replace Transformer2DModel, by its ``norm_type``.
TRANSFORMERS = dict(
    ada_norm_zero='DiTTransformer2DModel',
    ada_norm_single='PixArtTransformer2DModel',
)
#: Sub-folders of a pipeline.
DENOISERS = ('unet', 'transformer')
IMAGE_ENCODERS = ('vae', 'vqvae')


class Part(NamedTuple):
    """A model on this disk."""

    name: str  # its sub-folder in the pipeline; '' if it has none
    folder: Path
    cls: Any
    config: dict


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
    other = found[0][1]
    for key in ('architectures', 'model_type', 'architecture'):
        if other.get(key):  # of transformers or timm
            raise ValueError(
                f'expected a model of diffusers in {str(pretrained)!r}, got '
                f'one of another library ({key} {other[key]!r}); give the '
                "pipeline's folder, or choose another model"
            )
    raise ValueError(
        f'expected _class_name in {owner.config_name} of {str(pretrained)!r}, '
        f'got only {sorted(other)[:5]}; add the name of its class in '
        'diffusers'
    )


def find_part(folder: Path) -> Part:
    """Return the model in a folder itself, or the denoiser of a pipeline.

    Raises:
        OSError: There is none.
        ValueError: A config is damaged; or ``config.json`` and
            ``model_index.json`` name two classes, or none of diffusers.
    """
    from diffusers import UNet2DModel

    found = [
        name
        for name in DENOISERS
        if os.path.lexists(folder / name / UNet2DModel.config_name)
    ]
    place, config = find_config(
        UNet2DModel, str(folder), found[0] if found else DENOISERS[0]
    )
    name = config['_class_name']
    if name == 'Transformer2DModel':
        name = TRANSFORMERS.get(config.get('norm_type', ''), name)
    cls = diffusers_class(name, 'model')
    part = place or folder.resolve().name
    named = _named_class(folder, part)
    if named not in (None, name, config['_class_name']):
        raise ValueError(
            f'expected one class of the model {part!r}, got {named} in '
            f'model_index.json of {str(folder)!r} and {name} in config.json; '
            'choose a teacher of diffusers, or correct the file'
        )
    return Part(place or '', folder / (place or ''), cls, config)


def find_image_encoder(
    folder: Path, in_parents: bool = True
) -> Optional[Part]:
    """Return the autoencoder of a pipeline or of a part of it, if any.

    Args:
        folder: That of a pipeline, or of an autoencoder.
        in_parents: Whether it may also be that of another part of a pipeline.

    Raises:
        OSError: ``model_index.json`` names one that is not there.
        ValueError: See :func:`find_part`.
    """
    # First itself, which may be one of several in the folder of a pipeline.
    if (folder / 'config.json').is_file():
        part = find_part(folder)
        if hasattr(part.cls, 'encode'):
            return part
    parents = find_pipelines(folder) if in_parents else []
    for place in (folder, *parents):
        for name in IMAGE_ENCODERS:
            if (place / name / 'config.json').is_file():
                return find_part(place / name)._replace(name=name)
            named = _named_class(place, name)
            if named and (place / 'model_index.json').is_file():
                raise FileNotFoundError(
                    f'expected config.json in {str(place / name)!r}, which '
                    f'model_index.json names ({named}), got none; '
                    'download the folder again'
                )
    return None


def read_index(folder: Path) -> dict:
    """Return the ``model_index.json`` of a pipeline or of its part, or {}.

    Raises:
        ValueError: It is damaged.
    """
    from diffusers import DiffusionPipeline

    for place in (folder, *find_pipelines(folder)):
        file = place / DiffusionPipeline.config_name
        if file.is_file():
            try:
                index = json.loads(file.read_text(encoding='utf-8-sig'))
            except ValueError as error:
                raise damaged_config(
                    DiffusionPipeline, str(folder), error
                ) from error
            if isinstance(index, dict):
                return index
            got = type(index).__name__
            raise damaged_config(DiffusionPipeline, str(folder), got)
    return {}


def _named_class(folder: Path, part: str) -> Optional[str]:
    """Return the class of a part in ``model_index.json``."""
    value = read_index(folder).get(part)
    return value[-1] if isinstance(value, list) and value else None


def find_pipelines(folder: Path) -> List[Path]:
    """Return the pipelines that contain a folder, the nearest one first.

    Trainings write ``unet`` and ``unet_ema`` into the folder of a pipeline,
    or into its sub-folders, such as ``checkpoint-500``.
    """
    parents = folder.resolve().parents[:2]
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
        f'({" ".join(str(got).split())[:200]}); download the folder again, '
        'or, if you edited the file, save it as JSON in UTF-8 without a byte '
        'order mark'
    )
