"""Load a pretrained diffusion model to finetune it."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import torch

from repfusion_mm.models.diffusion.latents import UNCONDITIONAL
from repfusion_mm.models.teachers.families import find_family
from repfusion_mm.models.teachers.inputs.noise_schedule import (
    read_alphas_cumprod,
)
from repfusion_mm.models.teachers.loading.denoiser import (
    Source,
    find_denoiser,
    log_part,
)
from repfusion_mm.models.teachers.loading.folders import (
    Part,
    find_image_encoder,
)
from repfusion_mm.models.teachers.loading.hub import fetch, fetch_weights
from repfusion_mm.models.teachers.loading.scheduler import (
    build_scheduler,
    load_scheduler,
)
from repfusion_mm.models.teachers.loading.single_files import FINETUNED

SCHEDULER = 'model.scheduler'


class Pretrained(NamedTuple):
    """The parts of a pretrained diffusion model."""

    denoiser: Any  # float32, to be trained
    scheduler: Any
    vae: Optional[Part]  # None for a denoiser of images


def load_pretrained(
    denoiser: dict, scheduler: Optional[dict], vae: Optional[Part]
) -> Pretrained:
    """Load the parts of a pretrained diffusion model; weights strictly.

    Args:
        denoiser: ``pretrained``, its folder or hub id, and optionally another
            ``sample_size``.
        scheduler: ``type`` and arguments of a scheduler of the same noise.
            By default the one that belongs to the model.
        vae: An autoencoder of the same latents. By default that of the
            pipeline, if it has one.

    Raises:
        OSError: There is no model, or no scheduler.
        ValueError: It is conditioned on texts or classes, returns more than
            the noise, or was trained with another noise schedule.
    """
    pretrained = denoiser['pretrained']
    others = sorted(denoiser.keys() - {'pretrained', 'sample_size'})
    if others:
        raise ValueError(
            'expected only pretrained and sample_size in model.denoiser, as '
            f'the architecture is that of the files, got {others}; remove '
            'them (--cfg-options model.denoiser._delete_=True '
            f'{FINETUNED}={pretrained})'
        )
    part = find_denoiser(pretrained, has_vae=True, setting=FINETUNED)
    log_part(part, FINETUNED)
    if vae is None:
        vae = find_image_encoder(fetch(pretrained, FINETUNED))
        if vae is not None:  # from the hub
            fetch_weights(pretrained, vae, FINETUNED)
    loaded = _load_scheduler(pretrained, scheduler)
    _check_task(part, loaded, vae)
    size = {k: v for k, v in denoiser.items() if k == 'sample_size'}
    part = part._replace(config={**part.config, **size})
    source = Source(part, pretrained, setting=FINETUNED)
    source.locate()
    source.load(torch.float32)
    model = source.model.train().requires_grad_(True)
    return Pretrained(model, loaded, vae)


def _load_scheduler(pretrained: str, config: Optional[dict]) -> Any:
    """Load the scheduler of a model, or build another one of its noise."""
    given = None if config is None else build_scheduler(config, SCHEDULER)
    try:
        own = load_scheduler(pretrained, setting=SCHEDULER)
    except FileNotFoundError:
        if given is None:
            raise
        return given
    if given is None:
        return own
    before = read_alphas_cumprod(own, SCHEDULER)
    now = read_alphas_cumprod(given, SCHEDULER)
    predictions = {i.config.get('prediction_type') for i in (own, given)}
    if (
        len(predictions) > 1
        or before.shape != now.shape
        or not torch.allclose(before, now, rtol=1e-4, atol=1e-6)
    ):
        raise ValueError(
            f'expected {SCHEDULER} with the noise schedule and prediction '
            f'that {pretrained!r} was trained with, got another one; leave '
            f'{SCHEDULER} out'
        )
    return given


def _check_task(part: Part, scheduler: Any, vae: Optional[Part]) -> None:
    """Refuse a model that is not trained to return the noise of an image."""
    name = part.cls.__name__
    config = find_family(part.cls, part.config).config  # with the defaults
    classes = config.get('num_class_embeds') or config.get('class_embed_type')
    channels = 3 if vae is None else vae.config.get('latent_channels', 4)
    kind = 'RGB images' if vae is None else 'the latents'
    found = [config.get(key) for key in ('in_channels', 'out_channels')]
    prediction = scheduler.config.get('prediction_type', 'epsilon')
    got = ''
    if name not in UNCONDITIONAL:
        got = f'{name}, which is conditioned on more'
    elif name == 'UNet2DModel' and classes:
        got = f'one that is conditioned on classes ({classes})'
    elif found != [channels, channels]:
        got = (
            f'one of in_channels {found[0]} and out_channels {found[1]} '
            f'instead of {channels}, for {kind}'
        )
    elif prediction != 'epsilon':
        got = f'one that predicts {prediction!r}'
    if got:
        raise ValueError(
            f'expected a denoiser at {FINETUNED} that predicts the noise from '
            f'an image and a timestep only, got {got}; choose another one, or '
            'distill this one without finetuning: set model.teacher.pretrained'
        )
