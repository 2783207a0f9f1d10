"""The noise schedule that a denoiser was trained with."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

import torch
from mmengine.logging import print_log

from repfusion_mm.models.teachers.loading.scheduler import TEACHER, advise

#: What a denoiser of the DDPM family may predict; each is a function of x and
#: eps of equation 4.
PREDICTIONS = ('epsilon', 'sample', 'v_prediction')


class NoiseLevels(NamedTuple):
    """The factors of image and noise in x_t, T values of each."""

    signal: torch.Tensor
    noise: torch.Tensor

    def to(self, device: torch.device) -> NoiseLevels:
        """Move the factors to a device."""
        return NoiseLevels(*(factor.to(device) for factor in self))


def add_noise(
    clean: torch.Tensor,
    noise: torch.Tensor,
    timesteps: torch.Tensor,
    levels: NoiseLevels,
) -> torch.Tensor:
    """Return x_t = signal_t x + noise_t eps.

    The ``add_noise`` of diffusers' schedulers differs from it by class: some
    scale by sigma only, others take indices of their inference steps.

    Args:
        clean: N x C x H x W, images in [-1, 1] or latents of unit variance.
        noise: eps, of the same shape, from the standard normal distribution.
        timesteps: N integers in [0, T - 1].
        levels: The factors, on the device of ``clean``.
    """
    signal, scale = (factor[timesteps].view(-1, 1, 1, 1) for factor in levels)
    return signal * clean + scale * noise


def draw_noise(clean: torch.Tensor) -> torch.Tensor:
    """Return eps for x_0, the same in every memory format of x_0."""
    return torch.randn_like(clean, memory_format=torch.contiguous_format)


def read_noise_levels(
    scheduler: Any, flow_matching: bool = False
) -> NoiseLevels:
    """Return the noise levels of a diffusers scheduler.

    DDPM (arXiv 2006.11239, eq. 4): sqrt(a_t) and sqrt(1 - a_t). Flow matching
    (arXiv 2210.02747): 1 - t / T and t / T, where T is 1000. A shift of the
    scheduler changes which of these levels a sampling visits, not the levels.

    Args:
        scheduler: A diffusers scheduler.
        flow_matching: Whether the denoiser is trained by flow matching.

    Raises:
        ValueError: The scheduler is of another kind.
    """
    if not flow_matching:
        return ddpm_levels(read_alphas_cumprod(scheduler))
    config = getattr(scheduler, 'config', {})
    length = config.get('num_train_timesteps')
    if not (
        type(scheduler).__name__.startswith('FlowMatch')
        or config.get('use_flow_sigmas')
    ):
        fault = ''
    elif config.get('invert_sigmas'):
        fault = ' with invert_sigmas=True'
    elif length != 1000:
        # Pipelines differ in whether they give the denoiser t or t / 1000.
        fault = f' with num_train_timesteps={length} instead of 1000'
    else:
        sigmas = torch.arange(length) / length
        return NoiseLevels(1 - sigmas, sigmas)
    raise ValueError(
        'expected a scheduler of flow matching, which this denoiser is '
        f'trained with, got {type(scheduler).__name__}{fault}; '
        f'{advise(TEACHER, True)}'
    )


def log_unused_schedule(scheduler: dict) -> None:
    """Warn of settings of a scheduler that images without noise do not use.

    They are not refused: the probe of timesteps can be asked for noise.
    """
    unused = sorted(scheduler.keys() - {'type', 'num_train_timesteps'})
    if unused:
        print_log(
            f'teacher: not used are {unused} of {TEACHER}, as the images are '
            'without noise; to use them, set model.teacher.input_mode='
            "'noised'",
            logger='current',
            level=logging.WARNING,
        )


def ddpm_levels(alphas_cumprod: torch.Tensor) -> NoiseLevels:
    """Return the noise levels of DDPM, from T values of a_t."""
    return NoiseLevels(alphas_cumprod.sqrt(), (1 - alphas_cumprod).sqrt())


def _is_flow(scheduler: Any) -> bool:
    config = getattr(scheduler, 'config', {})
    return (
        type(scheduler).__name__.startswith('FlowMatch')
        or config.get('prediction_type') == 'flow_prediction'
        or bool(config.get('use_flow_sigmas'))
    )


def read_alphas_cumprod(
    scheduler: Any, setting: str = TEACHER
) -> torch.Tensor:
    """Return a_t of a diffusers scheduler, T values in [0, 1].

    Args:
        scheduler: A diffusers scheduler.
        setting: What error messages call it.

    Raises:
        ValueError: The scheduler is not of the DDPM family, whose denoisers
            are trained on x_t of eq. 4 and are given t in [0, T - 1].
    """
    config = getattr(scheduler, 'config', {})
    alphas = getattr(scheduler, 'alphas_cumprod', None)
    length = config.get('num_train_timesteps')
    predicts = config.get('prediction_type', 'epsilon')
    steps = getattr(scheduler, 'timesteps', None)
    if alphas is None or length is None:
        fault = 'no alphas_cumprod over num_train_timesteps'
    elif not 0 < len(alphas) == length:
        fault = f'{len(alphas)} betas for {length} num_train_timesteps'
    elif (
        not ((alphas >= 0) & (alphas <= 1)).all()
        or (alphas.diff() > 1e-6).any()
    ):
        fault = 'betas outside of [0, 1]'
    elif (alphas == 1).all():
        fault = 'no noise, as all betas are 0'
    elif _is_flow(scheduler):
        fault = f'flow matching (prediction_type {predicts!r})'
    elif predicts not in PREDICTIONS:
        raise ValueError(
            f'expected {setting}.prediction_type to be one of {PREDICTIONS}, '
            f'got {predicts!r}; correct it in scheduler_config.json or in '
            f'{setting}'
        )
    elif steps is not None and min(steps) < 0:
        fault = 'timesteps that are log sigma'
    else:
        return alphas.float()
    raise ValueError(
        "expected a scheduler of the DDPM family, which gives the denoiser's "
        f'training timesteps 0 to T - 1, got {type(scheduler).__name__} with '
        f'{fault}; {advise(setting)}'
    )
