"""Find the files of a diffusers model, and check what they say of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

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
            if Path(pretrained, place or '', owner.config_name).is_file():
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


def check_pipeline(pretrained: str) -> None:
    """Refuse the denoiser of a pipeline that runs on latents.

    Raises:
        ValueError: ``model_index.json`` names another model, such as an
            autoencoder.
    """
    from diffusers import DiffusionPipeline

    try:
        index = DiffusionPipeline.load_config(pretrained)
    except OSError:  # not a pipeline, but perhaps a part of one
        parent = find_parent(pretrained, Path(pretrained).name)
        if parent is None:
            return
        index = json.loads(
            (parent / 'model_index.json').read_text(encoding='utf-8')
        )
    others = {
        name: part[1]
        for name, part in index.items()
        if isinstance(part, (list, tuple)) and name != 'unet'
    }
    for name, cls in others.items():
        try:
            diffusers_class(cls, 'model')
        except (ValueError, ImportError):
            continue
        raise ValueError(
            'expected a denoiser of RGB images, got that of the '
            f'{index.get("_class_name")} {str(pretrained)!r}, which works '
            f'with its {name} ({cls}); choose a pipeline of pixels, such as '
            'a DDPMPipeline'
        )


def find_parent(pretrained: str, part: str) -> Optional[Path]:
    """Return the folder of the pipeline that a folder is a part of.

    The pipeline must have the sub-folder ``part``.
    """
    parent = Path(pretrained).resolve().parent
    is_pipeline = (parent / 'model_index.json').is_file()
    return parent if is_pipeline and (parent / part).is_dir() else None


def damaged_config(owner: Any, pretrained: str, got: object) -> ValueError:
    """Return the error of a config that cannot be read."""
    return ValueError(
        f'expected {owner.config_name} of {str(pretrained)!r} in the format '
        'of diffusers, got a damaged file '
        f'({" ".join(str(got).split())[:200]}); fetch the folder again'
    )
