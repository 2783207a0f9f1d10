"""Check the denoiser and the scheduler of a training."""

from __future__ import annotations

import copy
from typing import Any, Optional, Sequence

import torch

from repfusion_mm.models.diffusion.latents import UNCONDITIONAL, predict
from repfusion_mm.models.teachers.loading.folders import Part
from repfusion_mm.utils.arguments import read_size


def check_channels(denoiser: Any, vae: Optional[Part]) -> None:
    """Refuse a denoiser of other images, or that returns more than the noise.

    Args:
        denoiser: The denoiser.
        vae: The autoencoder of the latents that it runs on, if any.

    Raises:
        ValueError: It has other numbers of channels.
    """
    channels, kind, other = 3, 'RGB images', ', or model.vae to an autoencoder'
    if vae is not None:
        channels = vae.config.get('latent_channels', 4)
        kind, other = 'the latents of model.vae', ''
    names = ('in_channels', 'out_channels')
    got = [denoiser.config.get(name) for name in names]
    if got != [channels, channels]:
        raise ValueError(
            f'expected in_channels and out_channels {channels} in '
            f'model.denoiser, as {kind}, got {got[0]} and {got[1]}; set both '
            f'to {channels}{other}'
        )


def check_latents(denoiser: Any, scheduler: Any, autoencoder: Part) -> None:
    """Refuse parts with which diffusers' pipelines would sample wrongly.

    Raises:
        ValueError: There is no unconditional pipeline for the denoiser, the
            scheduler clips the latents, or the autoencoder shifts them.
    """
    name = type(denoiser).__name__
    if name not in UNCONDITIONAL:
        raise ValueError(
            "expected model.denoiser.type 'UNet2DModel' or "
            f"'DiTTransformer2DModel' with model.vae, got {name!r}, for which "
            'diffusers has no unconditional pipeline; choose one of them'
        )
    config = autoencoder.config
    names = ('shift_factor', 'latents_mean', 'latents_std')
    shift = {key: config[key] for key in names if config.get(key)}
    if shift:
        raise ValueError(
            'expected an autoencoder with a scaling_factor only in model.vae, '
            f"got {shift}, which diffusers' unconditional pipelines ignore; "
            'choose another one, such as that of Stable Diffusion 1.5'
        )
    if not isinstance(denoiser.config.sample_size, int):
        raise ValueError(
            'expected model.denoiser.sample_size to be the side of square '
            f'latents, got {denoiser.config.sample_size!r}; set it to the '
            'side of the images over the factor of the autoencoder'
        )
    if scheduler.config.get('clip_sample'):
        raise ValueError(
            'expected model.scheduler.clip_sample=False with model.vae, as '
            'latents have values outside of [-1, 1], got True; set it to False'
        )


def check_outputs(scheduler: Any) -> None:
    """Refuse a scheduler that expects other outputs than the noise.

    Raises:
        ValueError: It expects another prediction or a learned variance.
    """
    prediction = scheduler.config.get('prediction_type', 'epsilon')
    if prediction != 'epsilon':
        raise ValueError(
            "expected model.scheduler.prediction_type 'epsilon', got "
            f'{prediction!r}; other predictions are not trained'
        )
    variance = str(scheduler.config.get('variance_type'))
    if variance.startswith('learned'):
        raise ValueError(
            'expected model.scheduler.variance_type to be a fixed variance, '
            f'got {variance!r}, which is not trained; leave it out'
        )


def check_conditions(denoiser: Any) -> None:
    """Refuse a denoiser that needs more than images and timesteps.

    Raises:
        ValueError: It is conditioned on classes.
    """
    given = {
        name: denoiser.config.get(name)
        for name in ('num_class_embeds', 'class_embed_type')
        if denoiser.config.get(name) is not None
    }
    if given:
        raise ValueError(
            'expected a denoiser without classes, as labels are ignored, got '
            f'{given}; remove {" and ".join(given)} from model.denoiser'
        )


def check_sample_size(denoiser: Any) -> None:
    """Refuse a denoiser that does not run on images of its ``sample_size``.

    Only shapes are computed. If it fails, larger sizes are tried (multiples
    of ``2 ** (levels - 1)`` and of 64), to suggest one in the error.

    Raises:
        ValueError: It does not run on images of this size.
    """
    size = denoiser.config.get('sample_size')
    sides = read_size('model.denoiser.sample_size', size)
    shapes = copy.deepcopy(denoiser).to('meta')
    error = _dry_run(shapes, sides)
    if error is None:
        return
    levels = len(denoiser.config.get('block_out_channels') or [None])
    patch = denoiser.config.get('patch_size') or 1
    for multiple in (patch * 2 ** (levels - 1), 64):
        rounded = [-(-side // multiple) * multiple for side in sides]
        if _dry_run(shapes, rounded) is None:
            raise ValueError(
                'expected a denoiser that runs on images of its sample_size, '
                f'got sample_size={size} ({error}); set it (image_size in '
                f'configs/teacher/ddpm_custom.py) to a multiple of {multiple}'
            ) from error
    raise ValueError(
        'expected model.denoiser to take (images, timesteps) of any size, '
        f'got {type(error).__name__} ({error}); correct its arguments'
    ) from error


def _dry_run(denoiser: Any, sides: Sequence[int]) -> Optional[Exception]:
    """Return the error of a denoiser on the meta device, if it has one."""
    images = torch.zeros(1, denoiser.config.in_channels, *sides, device='meta')
    timesteps = torch.zeros(1, dtype=torch.long, device='meta')
    try:
        output = predict(denoiser, images, timesteps)
        if output.shape != images.shape:
            raise ValueError(f'outputs of {tuple(output.shape[2:])}')
    except NotImplementedError:  # an operation without a meta kernel
        return None
    except Exception as error:
        return error
    return None
