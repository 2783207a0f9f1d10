"""How an image becomes the input of a denoiser, as configured."""

from __future__ import annotations

from typing import Optional

from repfusion_mm.models.teachers.inputs.image_encoder import ImageEncoder

INPUT_MODES = ('auto', 'clean', 'noised')


def resolve_input_mode(
    input_mode: str,
    num_noises: int,
    encoder: Optional[ImageEncoder],
    vae_dtype: str,
    posterior: str,
) -> str:
    """Return ``'clean'`` or ``'noised'``, and check the other settings.

    Args:
        input_mode: Setting of the teacher, as the others; ``'auto'`` is noised
            for latent denoisers, else clean.
        num_noises: Number of draws of the noise.
        encoder: The image encoder of a latent denoiser.
        vae_dtype: The dtype that the encoder computes in.
        posterior: What an image is encoded to.

    Raises:
        ValueError: A setting has no effect with the others, or the encoder
            cannot do it.
    """
    if input_mode == 'auto':
        input_mode = 'clean' if encoder is None else 'noised'
    if num_noises > 1 and input_mode == 'clean':
        raise ValueError(
            'expected teacher.num_noises=1 for images without noise, got '
            f'{num_noises}; leave it out, or set '
            "teacher.input_mode='noised'"
        )
    if encoder is None:
        for name, value, default in (
            ('vae_dtype', vae_dtype, 'auto'),
            ('posterior', posterior, 'mean'),
        ):
            if value != default:
                raise ValueError(
                    f'expected no teacher.{name} for a pixel-space denoiser, '
                    'which has no image encoder; leave it out'
                )
        return input_mode
    if posterior == 'sample' and not encoder.has_distribution:
        raise ValueError(
            "expected teacher.posterior='mean' for an image encoder without "
            f"a distribution ({type(encoder.vae).__name__}), got 'sample'; "
            'leave it out'
        )
    if vae_dtype == 'float16' and encoder.overflows:
        raise ValueError(
            "expected teacher.vae_dtype 'bfloat16' or 'float32', got "
            "'float16', with which this image encoder may overflow, as its "
            'config does not have force_upcast=False; correct it'
        )
    return input_mode
