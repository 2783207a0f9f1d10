"""The image encoder of a latent diffusion model."""

from __future__ import annotations

from typing import Any, Dict, NamedTuple, Optional, Tuple

import torch
import torch.nn as nn

from repfusion_mm.models.teachers.fingerprint import hash_config, hash_weights
from repfusion_mm.models.teachers.layers import count_calls, release_unused
from repfusion_mm.models.utils.autocast import without_autocast

#: What an image is encoded to.
POSTERIORS = ('mean', 'sample')
#: Side in pixels of the image that shows the size of the latents.
PROBED_SIDE = 256


class Posterior(NamedTuple):
    """The distribution of an image's latents, in the denoiser's scale.

    Both are N x C x h x w float32. ``std`` is zero for encoders without a
    distribution.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def draw(self, sample: bool) -> torch.Tensor:
        """Return a sample, or the mean."""
        if not sample:
            return self.mean
        return self.mean + self.std * torch.randn_like(self.mean)


class ImageEncoder(nn.Module):
    """Encode images to the latents that a denoiser is trained on.

    Scale and shift of the latents are those of the autoencoder's config:
    ``scaling_factor`` and ``shift_factor``, or ``latents_mean`` and
    ``latents_std`` of each channel.

    Args:
        vae: A diffusers autoencoder with ``encode``. Its decoder is released.
        shapes: A copy on the meta device.

    Raises:
        ValueError: The model does not encode images.
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, vae: Any, shapes: Any) -> None:
        super().__init__()
        self.vae = vae
        config = vae.config
        #: Whether the encoder is for images or, with one frame, for videos.
        self.is_video = next(
            p.dim() == 5 for p in vae.parameters() if p.dim() > 3
        )
        self.overflows = bool(config.get('force_upcast', True))
        image = torch.zeros(1, 3, PROBED_SIDE, PROBED_SIDE, device='meta')
        latents: list = []
        used = count_calls(
            shapes, lambda: latents.append(self._encode(shapes, image).mean)
        )
        release_unused(vae, set(used))
        _, self.channels, side, _ = latents[0].shape
        #: Side of the square of pixels that one latent pixel encodes.
        self.factor = PROBED_SIDE // side
        shift, scale = _read_scale(config)
        for name, value in (('shift', shift), ('scale', scale)):
            value = torch.tensor(value, dtype=torch.float32)
            self.register_buffer(name, value.view(1, -1, 1, 1), False)

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> Posterior:
        """Return the distribution of the latents of images.

        Args:
            images: N x 3 x H x W, RGB, float in [0, 1].
        """
        with without_autocast(images.device):
            images = (images * 2 - 1).to(self.vae.dtype)
            mean, std = self._encode(self.vae, images)
        mean, std = mean.float(), std.float()
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

    def _encode(self, vae: Any, images: torch.Tensor) -> Posterior:
        if self.is_video:
            images = images.unsqueeze(2)
        encoded = vae.encode(images)
        posterior = getattr(encoded, 'latent_dist', None)
        if posterior is not None:
            mean, std = posterior.mean, posterior.std
        else:
            # AutoencoderTiny and AutoencoderDC
            mean = encoded['latents' if 'latents' in encoded else 'latent']
            std = torch.zeros_like(mean)
        if self.is_video:
            mean, std = mean.squeeze(2), std.squeeze(2)
        return Posterior(mean, std)


def _read_scale(config: Any) -> Tuple[Any, Any]:
    """Return shift and scale of the latents, for each channel or for all."""
    scaling = config.get('scaling_factor') or 1.0
    std = config.get('latents_std')
    shift = config.get('latents_mean')
    if shift is None:
        shift = config.get('shift_factor') or 0.0
    scale = scaling if std is None else [scaling / value for value in std]
    return shift, scale
