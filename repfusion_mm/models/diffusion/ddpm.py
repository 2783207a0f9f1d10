"""Train a diffusion model to use as a teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional

import torch
import torch.nn as nn

from repfusion_mm.models.diffusion.base import GenerativeModel
from repfusion_mm.models.diffusion.checks import (
    check_channels,
    check_conditions,
    check_latents,
    check_outputs,
    check_sample_size,
)
from repfusion_mm.models.diffusion.latents import (
    build_pipeline,
    find_autoencoder,
    load_encoder,
    predict,
    sample_images,
)
from repfusion_mm.models.diffusion.pretrained import load_pretrained
from repfusion_mm.models.teachers.features.layers import check_denoiser
from repfusion_mm.models.teachers.inputs.image_encoder import ImageEncoder
from repfusion_mm.models.teachers.inputs.noise_schedule import (
    add_noise,
    ddpm_levels,
    read_alphas_cumprod,
)
from repfusion_mm.models.teachers.loading.denoiser import build_denoiser
from repfusion_mm.models.teachers.loading.fingerprint import hash_tensors
from repfusion_mm.models.teachers.loading.scheduler import build_scheduler
from repfusion_mm.models.teachers.loading.single_files import FINETUNED
from repfusion_mm.registry import MODELS
from repfusion_mm.utils.arguments import read_size


@MODELS.register_module()
class DenoisingDiffusion(GenerativeModel):
    """Train a diffusers denoiser to predict the noise in x_t.

    Minimizes ||eps - s(x_t, t)||^2 with uniform t (the "simple" loss of DDPM,
    arXiv 2006.11239, eq. 14).

    Args:
        denoiser: ``type`` and arguments of a diffusers model that takes
            (sample, timestep), such as ``UNet2DModel``, with random weights.
            Or ``pretrained``, the folder or hub id of an unconditional model
            of diffusers to finetune, and optionally another ``sample_size``.
            Its scheduler and its autoencoder, if it has one, are used. A
            resumed run reads its configs again.
        scheduler: ``type`` and arguments of a diffusers scheduler. Required
            without ``pretrained``.
        vae: Folder of a frozen diffusers autoencoder, such as one that
            :class:`AutoencoderTraining` has exported. The denoiser is then
            trained on its scaled latents (latent diffusion, arXiv
            2112.10752). It is not part of the model's state: a resumed run
            reads it again, and is refused if it has changed
            (``ExactResumeHook``). By default that of ``pretrained``, or
            else the denoiser takes images.
        channel_order: ``'rgb'`` or ``'bgr'``, the channel order of the inputs.
            Required if the data preprocessor does not convert channels.
        data_preprocessor: Config of the data preprocessor. Its mean and std
            are used to convert its outputs to images in [0, 1].
        init_cfg: Initialization config.

    Raises:
        ValueError: The denoiser does not take RGB images (or latents) of its
            ``sample_size``, the scheduler does not predict the noise, or the
            weights of ``pretrained`` do not match its architecture.
        OSError: There is no autoencoder at ``vae``, or no denoiser at
            ``pretrained``.
    """

    denoiser: Any
    encoder: Optional[ImageEncoder]
    #: Hashes of what a resumed run must find unchanged, as no checkpoint
    #: holds it.
    external_hashes: Dict[str, str]
    alphas_cumprod: torch.Tensor

    def __init__(
        self,
        denoiser: dict,
        scheduler: Optional[dict] = None,
        vae: Optional[str] = None,
        channel_order: Optional[str] = None,
        data_preprocessor: Optional[dict] = None,
        init_cfg: Optional[dict] = None,
    ) -> None:
        super().__init__(channel_order, data_preprocessor, init_cfg)
        pretrained = denoiser.get('pretrained')
        # Plain attributes, not registered sub-modules, so that neither
        # state_dict() nor parameters() includes the autoencoder.
        self.vae = None if vae is None else find_autoencoder(vae)
        object.__setattr__(self, 'encoder', None)
        if pretrained is None:
            self.denoiser = build_denoiser(denoiser)
            self.scheduler = build_scheduler(scheduler, 'model.scheduler')
        else:
            self.denoiser, self.scheduler, self.vae = load_pretrained(
                denoiser, scheduler, self.vae
            )
        # Not saved: the scheduler is part of the config.
        self.register_buffer(
            'alphas_cumprod',
            read_alphas_cumprod(self.scheduler, 'model.scheduler'),
            persistent=False,
        )
        self.external_hashes = {}
        if pretrained is not None:
            schedule = hash_tensors(dict(alphas=self.alphas_cumprod))
            self.external_hashes[f'{FINETUNED}: noise schedule'] = schedule
        if self.vae is not None:
            check_latents(self.denoiser, self.scheduler, self.vae)
            encoder = load_encoder(self.vae)
            object.__setattr__(self, 'encoder', encoder)
            # Here, because the weights are not cast yet.
            parts = encoder.fingerprint()
            for part in ('weights', 'config'):
                self.external_hashes[f'model.vae: {part}'] = parts[part]
        check_denoiser(self.denoiser.config, len(self.alphas_cumprod), 'model')
        check_channels(self.denoiser, self.vae)
        check_conditions(self.denoiser)
        check_sample_size(self.denoiser)
        check_outputs(self.scheduler)
        try:
            self.build_sampler().set_timesteps(len(self.alphas_cumprod))
        except ValueError as error:
            raise ValueError(
                'expected model.scheduler with which DDIM samples images, '
                f'got {scheduler} ({error}); correct it'
            ) from error

    def loss(self, images: torch.Tensor) -> Dict[str, torch.Tensor]:
        """Compute the denoising loss at random timesteps."""
        if self.encoder is None:
            clean = images * 2 - 1
        else:
            clean = self.encoder(images).draw(sample=True)
        self._check_size(images)
        timesteps = torch.randint(
            len(self.alphas_cumprod), (len(clean),), device=clean.device
        )
        noise = torch.randn_like(clean)
        levels = ddpm_levels(self.alphas_cumprod)
        noised = add_noise(clean, noise, timesteps, levels)
        predicted = predict(self.denoiser, noised, timesteps)
        return dict(loss=(predicted.float() - noise).pow(2).mean())

    def _check_size(self, images: torch.Tensor) -> None:
        """Refuse images of another side than those that are sampled."""
        setting = 'model.denoiser.sample_size'
        expected = read_size(setting, self.denoiser.config.sample_size)
        factor = 1 if self.encoder is None else self.encoder.factor
        height, width = (factor * side for side in expected)
        if tuple(images.shape[2:]) == (height, width):
            return
        latents = '' if factor == 1 else f' times the factor {factor} of vae'
        raise ValueError(
            f'expected images of {height} x {width}, the sample_size of the '
            f'denoiser{latents}, got {tuple(images.shape[2:])}; crop or '
            'resize them in the pipeline (image_size in '
            f'configs/teacher/ddpm_custom.py), or set {setting}'
        )

    @torch.no_grad()
    def sample(
        self, num_images: int, num_steps: int = 50, seed: int = 0
    ) -> torch.Tensor:
        """Sample images with DDIM (arXiv 2010.02502).

        Args:
            num_images: Number of images.
            num_steps: Number of denoising steps, at most T.
            seed: Seed of the initial noise.

        Returns:
            num_images x 3 x H x W, RGB, in [0, 1].
        """
        num_steps = min(num_steps, len(self.alphas_cumprod))
        training = self.denoiser.training
        self.denoiser.eval()
        sampler = self.build_sampler()
        pipeline = build_pipeline(self.denoiser, sampler, self.vae)
        images = sample_images(pipeline, num_images, num_steps, seed)
        self.denoiser.train(training)
        return images

    def save_pretrained(self, folder: Path, dtype: torch.dtype) -> None:
        """Write the denoiser and its scheduler, or the latent pipeline."""
        # Not diffusers' own to(), which warns of every cast.
        nn.Module.to(self.denoiser, dtype)
        if self.vae is None:
            self.denoiser.save_pretrained(folder)
            self.scheduler.save_pretrained(folder)
        else:
            pipeline = build_pipeline(self.denoiser, self.scheduler, self.vae)
            pipeline.save_pretrained(folder)

    def _apply(self, fn, *args, **kwargs) -> DenoisingDiffusion:
        """Take the encoder along in ``.to()``, ``.cuda()`` and so on."""
        if self.encoder is not None:
            self.encoder._apply(fn, *args, **kwargs)
        return super()._apply(fn, *args, **kwargs)

    def build_sampler(self) -> Any:
        """Build the DDIM scheduler of the training's noise schedule."""
        from diffusers import DDIMScheduler

        # Pass the betas, because DDIMScheduler does not know the schedules of
        # all other classes.
        alphas = self.alphas_cumprod.double().cpu()
        betas = 1 - alphas / torch.cat([alphas.new_ones(1), alphas[:-1]])
        return DDIMScheduler.from_config(
            self.scheduler.config,
            trained_betas=betas.tolist(),
            rescale_betas_zero_snr=False,  # the betas are already rescaled
            steps_offset=0,  # with others, the last timestep is T, not T - 1
            **({} if self.vae is None else dict(clip_sample=False)),
        )
