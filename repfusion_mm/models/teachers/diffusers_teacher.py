"""A frozen diffusers denoiser whose layers are read at any timestep."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import torch
import torch.nn as nn
from mmengine.logging import print_log
from mmengine.structures import BaseDataElement
from mmengine.utils import to_2tuple

from repfusion_mm.models.connectors.conv_connector import resize_to
from repfusion_mm.models.teachers.base import BaseTeacher
from repfusion_mm.models.teachers.dtype import DTYPES, resolve_dtype
from repfusion_mm.models.teachers.families import Condition, find_family
from repfusion_mm.models.teachers.features.feature_extractor import (
    FeatureExtractor,
)
from repfusion_mm.models.teachers.features.layers import (
    check_denoiser,
    resolve_layers,
)
from repfusion_mm.models.teachers.features.truncation import truncate
from repfusion_mm.models.teachers.inputs.conditioning import (
    CLASS_SIGNALS,
    ClassSignal,
    Conditioning,
)
from repfusion_mm.models.teachers.inputs.encoder_loading import open_encoder
from repfusion_mm.models.teachers.inputs.image_encoder import (
    POSTERIORS,
    ImageEncoder,
    Posterior,
)
from repfusion_mm.models.teachers.inputs.modes import (
    INPUT_MODES,
    resolve_input_mode,
)
from repfusion_mm.models.teachers.inputs.noise_schedule import (
    add_noise,
    draw_noise,
    log_unused_schedule,
    read_noise_levels,
)
from repfusion_mm.models.teachers.inputs.prompts import load_condition
from repfusion_mm.models.teachers.inputs.sizes import resolve_image_size
from repfusion_mm.models.teachers.loading.denoiser import open_denoiser
from repfusion_mm.models.teachers.loading.fingerprint import (
    hash_config,
    hash_tensors,
    hash_weights,
)
from repfusion_mm.models.teachers.loading.scheduler import open_scheduler
from repfusion_mm.models.utils.autocast import without_autocast
from repfusion_mm.registry import MODELS
from repfusion_mm.utils.arguments import (
    check_choice,
    check_flags,
    check_integer,
)

NO_LATENTS = (
    'expected a latent teacher (with a VAE) for cached latents, got a '
    'pixel-space denoiser; use CachedFeaturesDataset'
)


@MODELS.register_module()
class DiffusersTeacher(BaseTeacher):
    """Extract the features z_t = s(x_t, t) of a frozen diffusion model.

    The denoiser is a U-Net or a transformer, pixel-space or latent (with an
    image encoder); ``families`` holds one file for each class. It runs
    its own forward, which exits early after the last requested layer. Weights
    of later layers, of the image decoder and of text encoders are not kept in
    memory.

    Args:
        layers: Module paths inside the denoiser, each of which outputs a map
            or tokens of the image, e.g. ``'mid_block.resnets.1.conv2'``,
            ``'up_blocks.1'`` or ``'transformer_blocks.13'``. For a converted
            guided-diffusion teacher the published paths, such as
            ``'middle_block.2.out_layers.3'``, name the same modules.
            ``tools/analysis_tools/list_layers.py`` lists all.
        pretrained: Folder or hub id of a diffusers pipeline or denoiser, e.g.
            ``'google/ddpm-cifar10-32'``.
        config: Instead of ``pretrained``, ``type`` and arguments of a
            denoiser with random weights, for tests and timing.
        scheduler: ``type`` and arguments of a DDPM-type or flow-matching
            diffusers scheduler; its training schedule (``alphas_cumprod`` or
            sigmas) defines x_t. Overrides the scheduler of ``pretrained``.
            With ``input_mode='clean'`` only T is used.
        vae: Folder or hub id of the image encoder of a latent denoiser, by
            default that of the pipeline; or ``type`` and arguments of one
            with random weights.
        vae_dtype: The dtype that the image encoder computes in. ``'auto'`` is
            that of the denoiser, except that it is float32 where float16
            overflows (``force_upcast`` of its config).
        posterior: Whether an image is encoded to the ``'mean'`` of its
            latents' distribution, or to a ``'sample'``.
        input_size: Side in pixels, or height and width, to which images are
            resized (bilinear, antialiased). By default images are not
            resized, and must have the side that the denoiser is made for.
        input_mode: ``'clean'``: the denoiser gets x_0 itself, and t only
            through the time embedding (the paper's implementation).
            ``'noised'``: it gets x_t of its noise schedule (DDPM, arXiv
            2006.11239, eq. 4, or flow matching, arXiv 2210.02747).
            ``'auto'``: noised for latent denoisers, else clean.
        num_noises: Number of draws of the noise over which the features of an
            image are averaged; each costs a pass.
        prompt: A text that all images are conditioned on. By default the
            unconditional input of the pipeline, such as an empty text.
        prompt_file: A file for the encoded prompt, which is written if it
            does not exist. By default one in ``work_dirs/prompts``.
        class_signal: What a class-conditional denoiser is conditioned on.
            ``'none'``: no class. ``'random'``: a random class for each image.
            ``'label'``: the image's own label, as in the paper's
            implementation. This leaks the label: the decoder reads it back
            from the features, and the policy is rewarded for that. Labels
            of another dataset name wrong classes.
        dtype: The dtype that the teacher computes in, independent of the
            student and of autocast: ``'float32'``, ``'bfloat16'``,
            ``'float16'``, or ``'auto'``, the fastest on the teacher's device
            (see :func:`~repfusion_mm.models.teachers.dtype.resolve_dtype`).
            Features are returned as float32.
        early_stop: Exit after the last layer and release later weights.
        channels_last: Store the weights, and so the maps, in the channels
            last memory format, which is faster on some devices.
        compile: Run the pass up to the last layer through ``torch.compile``,
            which compiles once for each shape of a batch.
        max_batch_size: Split larger batches into passes of this many images,
            which take less memory. Splitting changes results by rounding.

    Raises:
        ValueError: The class of the denoiser has no family; a layer is
            unknown, runs more than once, or outputs no map; the image encoder
            is missing or of another model; the scheduler is of another kind
            (EDM, VE); or an argument is not one of its choices.
        OSError: ``pretrained`` is neither on disk nor on the hub.
    """

    denoiser: Any
    encoder: Optional[ImageEncoder]

    def __init__(
        self,
        layers: Sequence[str],
        pretrained: Optional[str] = None,
        config: Optional[dict] = None,
        scheduler: Optional[dict] = None,
        vae: Union[str, dict, None] = None,
        vae_dtype: str = 'auto',
        posterior: str = 'mean',
        input_size: Union[int, Sequence[int], None] = None,
        input_mode: str = 'auto',
        num_noises: int = 1,
        prompt: Optional[str] = None,
        prompt_file: Optional[str] = None,
        class_signal: str = 'none',
        dtype: str = 'auto',
        early_stop: bool = True,
        channels_last: bool = False,
        compile: bool = False,
        max_batch_size: Optional[int] = None,
    ) -> None:
        super().__init__()
        for name, value, choices in (
            ('input_mode', input_mode, INPUT_MODES),
            ('class_signal', class_signal, CLASS_SIGNALS),
            ('posterior', posterior, POSTERIORS),
            ('dtype', dtype, DTYPES),
            ('vae_dtype', vae_dtype, DTYPES),
        ):
            check_choice(f'model.teacher.{name}', value, choices)
        check_flags(
            'model.teacher',
            early_stop=early_stop,
            channels_last=channels_last,
            compile=compile,
        )
        check_integer('model.teacher.num_noises', num_noises)
        if max_batch_size is not None:
            check_integer('model.teacher.max_batch_size', max_batch_size)
        self.max_batch_size = max_batch_size
        self.dtype, self.vae_dtype = dtype, vae_dtype
        self.posterior = posterior
        self.num_noises = num_noises
        self.memory_format = (
            torch.channels_last if channels_last else torch.contiguous_format
        )

        # With dtype='auto' and a GPU, the dtype is chosen in .to(): casting
        # to the CPU's dtype first could lose precision.
        defer_dtype = dtype == 'auto' and torch.cuda.is_available()
        load_dtype = (
            None if defer_dtype else resolve_dtype(dtype, torch.device('cpu'))
        )
        source = open_denoiser(pretrained, config, vae is not None)
        self.denoiser = source.model
        self.family = find_family(type(self.denoiser), self.denoiser.config)
        self.encoder = open_encoder(
            vae, pretrained, self.family, load_dtype, vae_dtype
        )
        self.scheduler = open_scheduler(scheduler, pretrained, self.family)
        self._levels = read_noise_levels(
            self.scheduler, self.family.flow_matching
        )
        self.num_timesteps = len(self._levels.signal)
        check_denoiser(self.denoiser.config, self.num_timesteps)
        self.input_size = input_size
        self.image_size = resolve_image_size(input_size, self.family)
        self.input_mode = resolve_input_mode(
            input_mode, num_noises, self.encoder, vae_dtype, posterior
        )
        if scheduler and self.input_mode == 'clean':
            log_unused_schedule(scheduler)
        source.locate(self.family.unused_weights)

        classes = ClassSignal(class_signal, self.family)
        if class_signal == 'label':
            self.label_classes = classes.num_classes
        for model in (source.model, source.meta_model):
            classes.prepare(model)
        text = load_condition(
            self.family, self.denoiser, pretrained, prompt, prompt_file
        )
        self.condition = Conditioning(text, classes)

        # Truncate first, so that only the weights of remaining layers are
        # loaded.
        self.layers = resolve_layers(self.denoiser, layers)
        zeros = torch.zeros(1, dtype=torch.long)
        labels = [BaseDataElement(gt_label=zeros)]
        truncated = truncate(
            source.model,
            source.meta_model,
            self.family,
            self.layers,
            self._latent_size,
            classes(zeros, labels),
            early_stop,
        )
        self.feature_shapes = truncated.shapes
        num_text = self.family.num_text_tokens(text)
        self._readers = {
            name: reader.for_text(num_text)
            for name, reader in truncated.readers.items()
        }
        source.load(load_dtype)
        self.feature_extractor = FeatureExtractor(
            self.denoiser, self.layers, early_stop, compile
        )
        self.freeze()
        self._logged_dtype: Optional[tuple] = None
        self._is_checked = False
        if not defer_dtype:
            self._cast_weights()

    def forward(
        self,
        images: torch.Tensor,
        timesteps: torch.Tensor,
        data_samples: Optional[Sequence] = None,
    ) -> Dict[str, torch.Tensor]:
        """Extract the features of ``layers``; see the base class.

        ``gt_label`` of the data samples is read if ``class_signal='label'``.

        Raises:
            ValueError: Images of another side, without ``input_size``; labels
                that are needed and missing, or not a class of the denoiser;
                or, in the first batch, features that are NaN or Inf.
        """
        return self.extract(self.encode(images), timesteps, data_samples)

    def extract(
        self,
        x_0: torch.Tensor,
        timesteps: torch.Tensor,
        data_samples: Optional[Sequence] = None,
    ) -> Dict[str, torch.Tensor]:
        """Extract the features from x_0, as :meth:`encode` returns it."""
        with torch.no_grad(), without_autocast(x_0.device):
            condition = self.condition(timesteps, data_samples)
            feats = self._run_denoiser(x_0, timesteps, condition)
            for _ in range(self.num_noises - 1):
                more = self._run_denoiser(x_0, timesteps, condition)
                # Not in place: two layers may output the same tensor.
                feats = {name: feats[name] + more[name] for name in feats}
        if self.num_noises > 1:
            feats = {k: feat / self.num_noises for k, feat in feats.items()}
        if not self._is_checked:  # synchronizes with the device, once
            self._check_finite(feats)
        return feats

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Return x_0: images in [-1, 1] or latents, N x C x h x w float32.

        Args:
            images: N x 3 x H x W, RGB, float in [0, 1].
        """
        if self.encoder is None:
            return self._resize(images) * 2 - 1
        return self.draw(self.encode_latents(images))

    def encode_latents(self, images: torch.Tensor) -> Posterior:
        """Return the distribution of the latents of images in [0, 1].

        Raises:
            ValueError: The teacher has no image encoder.
        """
        if self.encoder is None:
            raise ValueError(NO_LATENTS)
        passes = [
            self.encoder(self._resize(images[part]))
            for part in self._split(len(images))
        ]
        return Posterior(*map(torch.cat, zip(*passes)))

    def draw(self, posterior: Posterior) -> torch.Tensor:
        """Return x_0 of latents: their mean or a sample, as configured."""
        return posterior.draw(self.posterior == 'sample')

    def latents_fingerprint(self) -> Dict[str, object]:
        """Return what cached latents depend on, except the image."""
        if self.encoder is None:
            raise ValueError(NO_LATENTS)
        shape = [self.encoder.channels, *self._latent_size]
        names = ['mean', 'std'] if self.posterior == 'sample' else ['mean']
        return dict(
            kind='latents',
            encoder=self.encoder.fingerprint(),
            image_size=self.image_size,
            layers=dict.fromkeys(names, shape),
        )

    def _resize(self, images: torch.Tensor) -> torch.Tensor:
        size = to_2tuple(self.image_size)
        if self.input_size is None and images.shape[-2:] != size:
            raise ValueError(
                f'expected images of {size[0]} x {size[1]}, which the teacher '
                f'is made for, got {tuple(images.shape[-2:])}; set '
                f'model.teacher.input_size={self.image_size} to resize them'
            )
        return resize_to(images, size)

    def fingerprint(self) -> Dict[str, object]:
        """Return what features depend on; see the base class.

        Call it after the teacher was moved to its device, which settles its
        dtype.
        """
        kind = self.condition.classes.kind
        for key, value, cacheable, effect in (
            ('input_mode', self.input_mode, 'clean', 'adds random noise'),
            ('posterior', self.posterior, 'mean', 'draws random latents'),
            ('class_signal', kind, 'none', 'adds a class to the input'),
        ):
            if value != cacheable:
                other = 'distill without CachedFeaturesDataset'
                if self.encoder is not None:
                    other = 'cache latents (tools/cache_features.py --latents)'
                raise ValueError(
                    f'expected model.teacher.{key}={cacheable!r} for cached '
                    f'features, got {value!r}, which {effect}; set '
                    f'{cacheable!r}, or {other}'
                )
        parts: Dict[str, object] = dict(
            weights=hash_weights(self.denoiser),
            denoiser=hash_config(self.denoiser),
            layers={k: list(v) for k, v in self.feature_shapes.items()},
            dtype=str(self.denoiser.dtype).replace('torch.', ''),
            image_size=self.image_size,
            input_mode=self.input_mode,
            class_signal=self.condition.classes.kind,
        )
        if self.encoder is not None:
            parts['encoder'] = self.encoder.fingerprint()
        if self.condition.text:
            parts['condition'] = hash_tensors(self.condition.text)
        return parts

    def frozen_hashes(self) -> Dict[str, str]:
        """Return hashes of weights and configs; see the base class."""
        hashes = super().frozen_hashes()
        hashes['denoiser config'] = hash_config(self.denoiser)
        if self.encoder is not None:
            hashes['vae config'] = hash_config(self.encoder.vae)
        hashes['noise schedule'] = hash_tensors(self._levels._asdict())
        return hashes

    @property
    def network(self) -> nn.Module:
        """The denoiser."""
        return self.denoiser

    @property
    def _latent_size(self) -> Tuple[int, int]:
        """Height and width of x_t."""
        height, width = to_2tuple(self.image_size)
        factor = self.family.latent_factor
        return height // factor, width // factor

    def _run_denoiser(
        self,
        x_0: torch.Tensor,
        timesteps: torch.Tensor,
        condition: Condition,
    ) -> Dict[str, torch.Tensor]:
        x_t = x_0
        if self.input_mode == 'noised':
            x_t = add_noise(x_0, draw_noise(x_0), timesteps, self._levels)
        x_t = x_t.to(self.denoiser.dtype)
        model_timesteps = self.family.scale_timesteps(timesteps)
        passes = []
        for part in self._split(len(x_t)):
            outputs = self.feature_extractor(
                **self.family.forward_kwargs(
                    x_t[part],
                    model_timesteps[part],
                    {key: value[part] for key, value in condition.items()},
                )
            )
            passes.append(
                {k: self._readers[k](v).float() for k, v in outputs.items()}
            )
        if len(passes) == 1:
            return passes[0]
        return {
            name: torch.cat([feats[name] for feats in passes])
            for name in passes[0]
        }

    def _split(self, num_images: int) -> List[slice]:
        """Return the parts of a batch of which each has a pass."""
        size = self.max_batch_size or num_images
        return [slice(i, i + size) for i in range(0, num_images, size)]

    def _check_finite(self, feats: Dict[str, torch.Tensor]) -> None:
        dtype = self.denoiser.dtype
        for name, feat in feats.items():
            if not (feat.is_meta or feat.isfinite().all()):
                advice = 'check that the images are finite and in [0, 1]'
                if dtype == torch.float16:
                    advice = "set model.teacher.dtype='bfloat16' or 'float32'"
                raise ValueError(
                    f'expected finite features of the layer {name!r}, got NaN '
                    f'or Inf in {dtype}; {advice}'
                )
        self._is_checked = True

    def _apply(self, fn, *args, **kwargs) -> DiffusersTeacher:
        """Cast the weights for the new device after ``.to()`` and the like."""
        super()._apply(fn, *args, **kwargs)
        self._cast_weights()
        return self

    def _cast_weights(self) -> None:
        device = self.denoiser.device
        dtype = resolve_dtype(self.dtype, device)
        # Not self.to(), which calls _apply, nor diffusers' own to(), which
        # warns of every cast.
        nn.Module.to(self.denoiser, dtype=dtype)
        self.denoiser.to(memory_format=self.memory_format)
        if self.encoder is not None:
            vae_dtype = self.encoder.resolve_dtype(self.vae_dtype, dtype)
            nn.Module.to(self.encoder.vae, dtype=vae_dtype)
        self._levels = self._levels.to(device)
        self.condition.to(dtype=dtype)
        self._is_checked = False
        if device.type != 'meta' and self._logged_dtype != (dtype, device):
            self._logged_dtype = dtype, device
            print_log(f'teacher: computes in {dtype} on {device}', 'current')
