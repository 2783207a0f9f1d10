"""Train the autoencoder of a latent diffusion model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional

import torch
import torch.nn as nn

from repfusion_mm.models.diffusion.base import GenerativeModel
from repfusion_mm.models.teachers.loading.folders import diffusers_class
from repfusion_mm.registry import MODELS
from repfusion_mm.utils.arguments import check_number

#: Momentum of the running variance of the latents, which is the plain mean
#: for the first 1 / MOMENTUM batches.
MOMENTUM = 0.01


@MODELS.register_module()
class AutoencoderTraining(GenerativeModel):
    """Train a diffusers ``AutoencoderKL`` to reconstruct images.

    Minimizes ||x - D(z)||^2 / n + ``kl_weight`` KL(q(z | x) || N(0, 1)) / n
    with z from q(z | x), n values in an image and the KL divergence summed
    over z: the loss of latent diffusion (arXiv 2112.10752, Sec. 3.1) without
    its perceptual and adversarial terms.

    The variance of the latents is averaged during the training. The exported
    ``scaling_factor`` is the inverse of its square root, so that scaled
    latents have unit variance (ibid., Sec. G). There is no ``shift_factor``,
    because diffusers' unconditional pipelines ignore it.

    Args:
        autoencoder: ``type`` and arguments of a diffusers ``AutoencoderKL``
            of RGB images.
        kl_weight: Weight of the KL divergence, 0 or more.
        channel_order: See :class:`GenerativeModel`.
        data_preprocessor: See :class:`GenerativeModel`.
        init_cfg: Initialization config.

    Raises:
        ValueError: The autoencoder is of another class, or not of RGB images.
    """

    latent_variance: torch.Tensor
    num_batches: torch.Tensor

    def __init__(
        self,
        autoencoder: dict,
        kl_weight: float = 1e-6,
        channel_order: Optional[str] = None,
        data_preprocessor: Optional[dict] = None,
        init_cfg: Optional[dict] = None,
    ) -> None:
        super().__init__(channel_order, data_preprocessor, init_cfg)
        check_number('model.kl_weight', kl_weight)
        self.kl_weight = kl_weight
        self.autoencoder = build_autoencoder(autoencoder)
        self.register_buffer('latent_variance', torch.ones(()))
        self.register_buffer('num_batches', torch.zeros(()))

    def loss(self, images: torch.Tensor) -> Dict[str, torch.Tensor]:
        """Compute the two losses of N x 3 x H x W images in [0, 1].

        Raises:
            ValueError: Reconstructions have another size than the images.
        """
        images = images * 2 - 1
        posterior = self.autoencoder.encode(images).latent_dist
        latents = posterior.sample()
        decoded = self.autoencoder.decode(latents).sample
        if decoded.shape != images.shape:
            factor = decoded.shape[-1] // latents.shape[-1]
            raise ValueError(
                'expected images whose sides are multiples of the factor of '
                f'the autoencoder, {factor}, got {tuple(images.shape[2:])}; '
                'crop or resize them in the pipeline'
            )
        if self.training:
            self._update_latent_variance(latents.detach())
        divergence = posterior.kl().mean() / images[0].numel()
        return dict(
            loss_reconstruction=(decoded - images).pow(2).mean(),
            loss_kl=self.kl_weight * divergence,
        )

    def _update_latent_variance(self, latents: torch.Tensor) -> None:
        self.num_batches += 1
        weight = (1 / self.num_batches).clamp(min=MOMENTUM)
        self.latent_variance.lerp_(latents.float().var(), weight)

    @torch.no_grad()
    def reconstruct(self, inputs: torch.Tensor) -> torch.Tensor:
        """Encode and decode N x 3 x H x W inputs.

        Returns:
            2 x N x 3 x H x W, RGB in [0, 1]: images, then reconstructions.
        """
        images = self.to_images(inputs)
        # From the mean of the posterior.
        decoded = self.autoencoder(images * 2 - 1).sample
        return torch.stack([images, (decoded.clamp(-1, 1) + 1) / 2])

    def save_pretrained(self, folder: Path, dtype: torch.dtype) -> None:
        """Write the autoencoder with its ``scaling_factor``."""
        scale = 1 / self.latent_variance.sqrt().item()
        self.autoencoder.register_to_config(scaling_factor=scale)
        # Not diffusers' own to(), which warns of every cast.
        nn.Module.to(self.autoencoder, dtype)
        self.autoencoder.save_pretrained(folder)


def build_autoencoder(config: dict) -> Any:
    """Build a diffusers ``AutoencoderKL`` with random weights.

    Raises:
        ValueError: It is another class, or it is not of RGB images.
    """
    from diffusers import AutoencoderKL

    arguments = dict(config)
    cls = diffusers_class(arguments.pop('type', None), 'model')
    if not issubclass(cls, AutoencoderKL):
        raise ValueError(
            "expected model.autoencoder.type 'AutoencoderKL', got "
            f'{cls.__name__!r}; other autoencoders are not trained'
        )
    autoencoder: Any = cls(**arguments)
    channels = [
        autoencoder.config[name] for name in ('in_channels', 'out_channels')
    ]
    if channels != [3, 3]:
        raise ValueError(
            'expected in_channels and out_channels 3 in model.autoencoder, '
            f'as images are RGB, got {channels}; leave them out'
        )
    return autoencoder
