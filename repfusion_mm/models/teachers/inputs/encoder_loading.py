"""Load the image encoder of a teacher."""

from __future__ import annotations

import contextlib
import inspect
import logging
from pathlib import Path
from typing import Optional, Union

import torch
from mmengine.logging import print_log

from repfusion_mm.models.teachers.families import DenoiserFamily
from repfusion_mm.models.teachers.inputs.image_encoder import (
    STATISTICS,
    ImageEncoder,
)
from repfusion_mm.models.teachers.loading.denoiser import (
    Source,
    check_input,
)
from repfusion_mm.models.teachers.loading.folders import find_image_encoder
from repfusion_mm.models.teachers.loading.hub import fetch
from repfusion_mm.models.teachers.loading.single_files import (
    PRETRAINED,
    advise_on_file,
    check_files,
)

#: The setting of a teacher's image encoder.
VAE = 'model.teacher.vae'


def open_encoder(
    vae: Union[str, dict, None],
    pretrained: Optional[str],
    family: DenoiserFamily,
    dtype: Optional[torch.dtype],
    vae_dtype: str,
) -> Optional[ImageEncoder]:
    """Return the image encoder of a latent denoiser, or None.

    Args:
        vae: ``vae`` of the teacher.
        pretrained: Folder or hub id of the pipeline, if any.
        family: The family of the denoiser, whose ``latent_factor`` is set.
        dtype: The dtype of the denoiser; None if it is not known yet, so that
            weights keep the dtype of the files.
        vae_dtype: ``vae_dtype`` of the teacher.

    Raises:
        ValueError: The denoiser runs on latents of another encoder, or on
            latents, and there is none.
    """
    part = None
    if isinstance(vae, (str, Path)):
        folder = fetch(str(vae), VAE)
        part = find_image_encoder(folder, in_parents=False)
        if part is None:
            check_files(folder, advise_on_file, VAE)
            raise ValueError(
                f'expected an autoencoder of diffusers at {str(vae)!r}, or a '
                'pipeline with one, got none; correct model.teacher.vae'
            )
    elif vae is None and pretrained is not None:
        part = find_image_encoder(fetch(pretrained))
    if isinstance(vae, dict):
        print_log(
            'teacher: image encoder with RANDOM weights, from a config; for '
            'one that is trained, set model.teacher.vae to its folder',
            logger='current',
            level=logging.WARNING,
        )
        source = Source(config=vae)
    elif part is not None:
        print_log(f'teacher: images encoded by {part.folder}', 'current')
        named, setting = (vae, VAE) if vae else (pretrained, PRETRAINED)
        source = Source(part, str(named), setting=setting)
    else:
        check_input(family, 'model.teacher.config')
        return None
    source.locate()
    encoder = ImageEncoder(source.model, source.meta_model)
    if encoder.channels != family.latent_channels:
        raise ValueError(
            'expected an image encoder of the latents that the denoiser takes '
            f'({family.latent_channels} channels), got one of '
            f'{encoder.channels} channels; correct model.teacher.vae, or '
            'download the pipeline again'
        )
    if vae is not None and pretrained is not None:
        compare_latents(encoder, pretrained)
    family.latent_factor = encoder.factor
    source.load(encoder.resolve_dtype(vae_dtype, dtype))
    return encoder


def compare_latents(encoder: ImageEncoder, pretrained: str) -> None:
    """Warn if an encoder's latents seem to be others than the pipeline's.

    Args:
        encoder: The encoder that ``vae`` names.
        pretrained: Folder or hub id of the pipeline.
    """
    own = None
    with contextlib.suppress(OSError, ValueError):  # it is not needed
        own = find_image_encoder(fetch(pretrained))
    if own is None:
        return
    if 'AutoencoderTiny' in (type(encoder.vae).__name__, own.cls.__name__):
        return  # its latents are already scaled
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(own.cls).parameters.items()
    }
    expected, got = {}, {}
    for name in STATISTICS:
        one = own.config.get(name, defaults.get(name))
        other = encoder.vae.config.get(name)
        if one != other:
            expected[name], got[name] = one, other
    if got:
        print_log(
            f'teacher: model.teacher.vae has {got}, the autoencoder of the '
            f'pipeline, {own.folder}, has {expected}; the denoiser is trained '
            'on the latents of the latter: choose one of the same latents, or '
            'leave model.teacher.vae out',
            logger='current',
            level=logging.WARNING,
        )
