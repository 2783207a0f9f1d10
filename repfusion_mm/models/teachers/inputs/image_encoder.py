"""The image encoder of a latent diffusion model."""

from __future__ import annotations

import math
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import torch
import torch.nn as nn

from repfusion_mm.models.teachers.features.layers import (
    release_unused,
    survey_layers,
)
from repfusion_mm.models.teachers.inputs.noise_schedule import draw_noise
from repfusion_mm.models.teachers.loading.fingerprint import (
    hash_config,
    hash_weights,
)
from repfusion_mm.models.utils.autocast import without_autocast

#: What is taken of the distribution of latents: its mean or a sample.
POSTERIORS = ('mean', 'sample')
#: Settings of an autoencoder that give shift and scale of its latents.
STATISTICS = ('scaling_factor', 'shift_factor', 'latents_mean', 'latents_std')
#: Height and width in pixels of the image that shows the size of the latents.
PROBED_SIZE = 256


class Posterior(NamedTuple):
    """The distribution of an image's latents, in the denoiser's scale.

    ``mean`` and ``std`` are N x C x h x w float32. ``std`` is zero for
    encoders without a distribution.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def draw(self, sample: bool) -> torch.Tensor:
        """Return a sample, or the mean."""
        if not sample:
            return self.mean
        return self.mean + self.std * draw_noise(self.mean)


class ImageEncoder(nn.Module):
    """Encode images to the latents that a denoiser is trained on.

    Scale and shift of the latents are those of the autoencoder's config:
    ``scaling_factor`` and ``shift_factor``, or ``latents_mean`` and
    ``latents_std`` of each channel.

    Args:
        vae: A diffusers autoencoder with ``encode``. Its decoder is released.
        meta_vae: A copy on the meta device.

    Raises:
        ValueError: The model does not encode images.
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __deepcopy__(self, memo: dict) -> ImageEncoder:
        """Return the encoder itself, which is frozen.

        An ``EMAHook`` copies the model that has it.
        """
        return self

    def __init__(self, vae: Any, meta_vae: Any) -> None:
        super().__init__()
        self.vae = vae
        #: Whether the encoder is for videos; an image is one frame.
        self.is_video = any(p.dim() == 5 for p in vae.parameters())
        self.overflows = bool(vae.config.get('force_upcast', True))
        image = torch.zeros(1, 3, PROBED_SIZE, PROBED_SIZE, device='meta')
        latents: list = []
        try:
            used = survey_layers(
                meta_vae,
                lambda: latents.append(self._encode(meta_vae, image)),
                lambda _: None,
            )
            mean, std = latents[0]
            _, self.channels, side, _ = mean.shape
        except (AttributeError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                'expected an autoencoder of RGB images, got '
                f'{type(vae).__name__}: {error}; correct model.teacher.vae'
            ) from error
        release_unused(vae, set(used))
        #: Whether latents have a distribution, or only a mean.
        self.has_distribution = std is not None
        #: Side of the square of pixels that one latent pixel encodes.
        self.factor = PROBED_SIZE // side
        shift, scale = _read_scale(vae.config, self.channels)
        for name, value in (('shift', shift), ('scale', scale)):
            tensor = torch.tensor(value).view(1, -1, 1, 1)
            self.register_buffer(name, tensor, False)

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> Posterior:
        """Return the distribution of the latents of images.

        Args:
            images: N x 3 x H x W, RGB, float in [0, 1].
        """
        with without_autocast(images.device):
            images = (images * 2 - 1).to(self.vae.dtype)
            mean, std = self._encode(self.vae, images)
        mean = mean.float()
        std = torch.zeros_like(mean) if std is None else std.float()
        return Posterior((mean - self.shift) * self.scale, std * self.scale)

    def resolve_dtype(
        self, name: str, dtype: Optional[torch.dtype]
    ) -> Optional[torch.dtype]:
        """Return the dtype that the encoder computes in.

        Args:
            name: ``vae_dtype`` of the teacher.
            dtype: The dtype of the denoiser; None if it is not known yet.
        """
        if name != 'auto':
            return getattr(torch, name)
        overflows = dtype == torch.float16 and self.overflows
        return torch.float32 if overflows else dtype

    def fingerprint(self) -> Dict[str, str]:
        """Return what latents depend on, except the image."""
        return dict(
            weights=hash_weights(self.vae),
            config=hash_config(self.vae),
            dtype=str(self.vae.dtype).replace('torch.', ''),
        )

    def _encode(
        self, vae: Any, images: torch.Tensor
    ) -> Tuple[torch.Tensor, Optional[torch.Tensor]]:
        if self.is_video:
            images = images.unsqueeze(2)
        encoded = vae.encode(images)
        posterior = getattr(encoded, 'latent_dist', None)
        if posterior is not None:
            mean, std = posterior.mean, posterior.std
        else:
            # AutoencoderTiny and AutoencoderDC
            name = 'latents' if hasattr(encoded, 'latents') else 'latent'
            mean, std = getattr(encoded, name), None
        if self.is_video:
            mean = mean.squeeze(2)
            std = None if std is None else std.squeeze(2)
        return mean, std


def _read_scale(config: Any, channels: int) -> Tuple[List[float], List[float]]:
    """Return shift and scale of the latents, for each channel or for all.

    ``latents_mean`` and ``latents_std`` are preferred if both are set, as in
    the pipelines of diffusers.

    Raises:
        ValueError: The statistics are not finite numbers, one for each
            channel, or a scale is not positive.
    """
    given = {name: config.get(name) for name in STATISTICS}
    scaling, shift, mean, std = given.values()
    try:
        # The pipelines multiply latents by scaling_factor.
        if not isinstance(
            config.get('scaling_factor', 1.0), (int, float)
        ) and (mean is None or std is None):
            raise ValueError('scaling_factor is not a number')
        scaling = 1.0 if scaling is None else scaling
        if mean is None or std is None:
            shifts, scales = [float(shift or 0)], [float(scaling)]
        elif len(mean) == len(std) == channels:
            shifts = [float(value) for value in mean]
            scales = [scaling / value for value in std]
        else:
            raise ValueError('one value for each channel is expected')
        if not all(map(math.isfinite, shifts + scales)) or min(scales) <= 0:
            raise ValueError('a value is not finite, or a scale not positive')
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise ValueError(
            f'expected statistics of {channels} channels in the config of the '
            f'image encoder, got {given} ({error}); download its config.json '
            'again'
        ) from error
    return shifts, scales
