"""Load a denoiser strictly."""

from __future__ import annotations

import inspect
import logging
from functools import partial
from pathlib import Path
from typing import Any, Callable, List, Optional, Sequence

import torch
from mmengine.dist import broadcast
from mmengine.logging import print_log

from repfusion_mm.models.teachers.families import DenoiserFamily, find_family
from repfusion_mm.models.teachers.loading.folders import (
    DENOISERS,
    IMAGE_ENCODERS,
    Part,
    diffusers_class,
    find_image_encoder,
    find_models,
    find_part,
)
from repfusion_mm.models.teachers.loading.hub import fetch, fetch_weights
from repfusion_mm.models.teachers.loading.single_files import (
    PRETRAINED,
    advise_on_file,
    check_files,
)
from repfusion_mm.models.teachers.loading.weights import (
    Locations,
    build_empty,
    load_weights,
    locate_weights,
)


class Source:
    """A diffusers model whose weights are read after it was truncated.

    Args:
        part: The model on this disk; None if its weights are random.
        pretrained: Folder or hub id of the pipeline or model.
        config: ``type`` and arguments of a model with random weights.
        setting: The setting that names the model, for errors.
    """

    def __init__(
        self,
        part: Optional[Part] = None,
        pretrained: str = '',
        config: Optional[dict] = None,
        setting: str = PRETRAINED,
    ) -> None:
        self._part, self._pretrained = part, pretrained
        self._setting = setting
        self._locations: Optional[Locations] = None
        build: Callable[[], Any] = (
            partial(build_denoiser, config or {})
            if part is None
            else partial(part.cls.from_config, part.config)
        )
        with torch.device('meta'):
            #: A copy on the meta device, to run without weights.
            self.meta_model = build()
        if part is None:
            self.model = build()
            for value in self.model.state_dict().values():
                broadcast(value)  # the seeds of the ranks may differ
        else:
            #: Its parameters are on the meta device if they are in files.
            self.model = build_empty(part.cls, part.config, self.meta_model)

    def locate(self, unused: Sequence[str] = ()) -> None:
        """Find the weights of the complete model, and compare their shapes.

        Args:
            unused: Tensors that the files may hold, and the model does not.

        Raises:
            OSError: There are none.
            ValueError: They do not match.
        """
        # On the meta device nothing is read.
        if self._part is None or torch.empty(0).is_meta:
            return
        fetch_weights(self._pretrained, self._part, self._setting)
        check_files(self._part.folder, setting=self._setting)
        self._locations = locate_weights(self.model, self._part.folder, unused)

    def load(self, dtype: Optional[torch.dtype]) -> None:
        """Read the weights that are left; None keeps the files' dtype."""
        if self._locations is not None:
            load_weights(self.model, self._locations, dtype)


def open_denoiser(
    pretrained: Optional[str], config: Optional[dict], has_vae: bool
) -> Source:
    """Return the denoiser of a teacher; see ``DiffusersTeacher``.

    Raises:
        OSError: The folder or the hub id has no denoiser.
        ValueError: Both or neither are given, or the files do not match the
            architecture.
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
        return Source(config=config)
    assert pretrained is not None
    part = find_denoiser(pretrained, has_vae)
    log_part(part)
    return Source(part, pretrained)


def log_part(part: Part, setting: str = PRETRAINED) -> None:
    """Log what a user should know of a denoiser that was found."""
    print_log(f'teacher: {part.folder} ({part.cls.__name__})', 'current')
    others = find_others(part)
    if others:
        print_log(
            f'teacher: not used are {others}, of the same class; to use one, '
            f'set {setting} to it',
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


def find_denoiser(
    pretrained: str, has_vae: bool = False, setting: str = PRETRAINED
) -> Part:
    """Return the denoiser of a pipeline, its class and its config.

    Args:
        pretrained: Folder or hub id of the pipeline or model.
        has_vae: Whether images are encoded by an autoencoder of its own.
        setting: The setting that names it, for errors.

    Raises:
        OSError: The folder or the hub id has no model.
        ValueError: Its model is not a denoiser that can teach.
    """
    folder = fetch(pretrained, setting)
    try:
        part = find_part(folder)
    except OSError as error:
        for place in (folder, *(folder / name for name in DENOISERS)):
            check_files(place, setting=setting)
        advice = ' or '.join(map(repr, find_denoisers(folder, setting)[:5]))
        if not advice:
            check_files(folder, advise_on_file, setting)
        raise FileNotFoundError(
            f'expected config.json in {str(pretrained)!r} or in its '
            f'sub-folder {" or ".join(map(repr, DENOISERS))}, got neither; '
            f'set {setting} to '
            f'{advice or "a folder that save_pretrained wrote"}'
        ) from error
    name = part.cls.__name__
    if hasattr(part.cls, 'encode') or 'ControlNet' in name:
        raise ValueError(
            f'expected a denoiser in {str(pretrained)!r}, got {name}, which '
            f"goes with one; set {setting} to the pipeline's folder"
        )
    family = find_family(part.cls, part.config)
    if not has_vae and find_image_encoder(folder) is None:
        check_input(family, str(part.folder))
    return part


def check_input(family: DenoiserFamily, place: str) -> None:
    """Check that a denoiser without an image encoder takes RGB images.

    Raises:
        ValueError: It takes latents, or grayscale images.
    """
    if family.needs_latents or family.in_channels != 3:
        raise ValueError(
            'expected a pixel-space denoiser (in_channels 3), or a latent '
            'denoiser next to its image encoder (vae), got in_channels '
            f'{family.in_channels} and no image encoder in {place!r}; '
            'download the complete pipeline, or set model.teacher.vae'
        )


def find_denoisers(folder: Path, setting: str = PRETRAINED) -> List[str]:
    """Return sub-folders of a folder that can be teachers.

    Raises:
        ValueError: There are only models that cannot.
    """
    found: List[str] = []
    refused: Optional[Exception] = None
    for place in find_models(folder):
        if Path(place).name in IMAGE_ENCODERS:
            continue
        try:
            find_denoiser(place, setting=setting)
            found.append(place)
        except (ImportError, OSError, ValueError) as error:
            refused = refused or error
    if refused and not found:
        raise refused
    return found
