"""Check the denoiser and the scheduler of a training."""

from __future__ import annotations

import copy
from typing import Any, Optional, Sequence

import torch

from repfusion_mm.models.diffusion.latents import predict
from repfusion_mm.utils.arguments import read_size


def check_channels(denoiser: Any, has_vae: bool) -> None:
    """Refuse a denoiser of other images, or that returns more than the noise.

    Raises:
        ValueError: It has other numbers of channels.
    """
    channels = denoiser.config.get('in_channels')
    if not has_vae and channels != 3:
        raise ValueError(
            'expected a denoiser of RGB images (in_channels 3), got '
            f'in_channels {channels}; set model.denoiser.in_channels to 3, or '
            'model.vae to the autoencoder of its latents'
        )
    outputs = denoiser.config.get('out_channels')
    if outputs != channels:
        kind = 'the latents of model.vae' if has_vae else 'RGB images'
        raise ValueError(
            f'expected model.denoiser.out_channels {channels}, as the noise '
            f'of {kind}, got {outputs}; set it to {channels}'
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
