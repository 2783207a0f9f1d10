"""Compare settings of a guided-diffusion checkpoint on photographs.

Its weights do not contain them. Wrong settings load without an error, but the
denoiser predicts the noise worse.
"""

from __future__ import annotations

import functools
import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple

import numpy as np
import torch
import torch.nn.functional as F

from repfusion_mm.models.teachers.guided_diffusion.weights import (
    StateDict,
    convert_weights,
)

SCHEDULES = ('linear', 'cosine')
ATTENTION_ORDERS = ('new', 'legacy')
#: Steps of the published guided-diffusion and improved-diffusion models.
COMMON_STEPS = (1000, 4000)
#: Numbers of heads that are compared; guided-diffusion's default is 4.
COMMON_HEADS = (1, 2, 4, 8)
#: Smaller heads are not compared.
MIN_HEAD_CHANNELS = 8
#: Values of alphas_cumprod at which settings are compared.
NOISE_LEVELS = (0.9, 0.7, 0.4, 0.1)
#: Settings that leave more noise than this do not denoise.
MAX_ERROR = 0.5
#: The settings are confirmed if the error of all others is larger by this.
MIN_RATIO = 1.05


@dataclass(frozen=True)
class Settings:
    """What the weights do not contain, by the names of the options.

    One of ``head_channels`` and ``num_heads`` is None.
    """

    attention_order: str
    schedule: str
    head_channels: Optional[int] = None
    num_heads: Optional[int] = None
    diffusion_steps: int = 1000
    rescale_timesteps: str = 'no'

    def options(self, other: Optional[Settings] = None) -> str:
        """Return the options, or only those that ``other`` has not."""
        known = {} if other is None else asdict(other)
        return ' '.join(
            f'--{name.replace("_", "-")} {value}'
            for name, value in asdict(self).items()
            if value is not None and value != known.get(name)
        )

    def head_sizes(self, widths: Sequence[int]) -> Tuple[Optional[int], ...]:
        """Return the channels of a head for each number of channels."""
        if self.num_heads is None:
            return (self.head_channels,) * len(widths)
        return tuple(width // self.num_heads for width in widths)


@dataclass(frozen=True)
class Comparison:
    """Errors of the given settings and of others, by their options."""

    error: float
    others: Dict[str, float]

    @property
    def best(self) -> str:
        """The options of the best of the other settings."""
        return min(self.others, key=self.others.__getitem__)

    @property
    def refuted(self) -> bool:
        """Whether others denoise, and better than the given settings."""
        least = self.others[self.best]
        return least <= MAX_ERROR and least * MIN_RATIO < self.error

    @property
    def confirmed(self) -> bool:
        """Whether the given settings denoise, and all others are worse."""
        least = self.others[self.best]
        return self.error <= MAX_ERROR and self.error * MIN_RATIO < least

    def __str__(self) -> str:
        figures = {'the given settings': self.error, **self.others}
        return (
            'mean squared error of the predicted noise on two photographs: '
            + ', '.join(f'{v:.4f} with {k}' for k, v in figures.items())
        )


def compare_settings(
    denoiser: Any,
    weights: StateDict,
    config: dict,
    given: Settings,
    published: bool = False,
) -> Comparison:
    """Compare how well other settings denoise photographs.

    Args:
        denoiser: The UNet2DModel, which has the given settings at the end.
        weights: guided-diffusion's weights.
        config: Config of the UNet2DModel.
        given: The settings to check.
        published: Whether only the attention order may be wrong.

    Raises:
        ValueError: An error is not finite.
    """
    others = [
        settings
        for settings in find_alternatives(config, given)
        if not published or settings.attention_order != given.attention_order
    ]
    errors = {}
    for settings in [*others, given]:
        load_weights(denoiser, weights, config, settings)
        alphas = build_scheduler(settings).alphas_cumprod
        errors[settings.options(given)] = denoising_error(denoiser, alphas)
    comparison = Comparison(errors.pop(''), errors)
    if not all(map(math.isfinite, (comparison.error, *errors.values()))):
        raise ValueError(f'expected finite errors, got {comparison}')
    return comparison


def find_alternatives(config: dict, given: Settings) -> List[Settings]:
    """Return settings that may be right if the given ones are wrong.

    They differ in one setting. Every size of heads that UNet2DModel can
    represent is among them.
    """
    widths = sorted(find_widths(config))
    found = [
        *(replace(given, schedule=name) for name in SCHEDULES),
        *(
            replace(given, diffusion_steps=steps, rescale_timesteps='no')
            for steps in COMMON_STEPS
        ),
    ]
    if given.diffusion_steps % 1000 == 0 and given.diffusion_steps > 1000:
        found += [replace(given, rescale_timesteps=r) for r in ('yes', 'no')]
    if given.head_sizes(widths) != tuple(widths):  # more than one head
        found += [replace(given, attention_order=o) for o in ATTENTION_ORDERS]
    common = functools.reduce(math.gcd, widths)
    divisors = [n for n in range(1, common + 1) if common % n == 0]
    heads = [
        replace(given, head_channels=size, num_heads=None)
        for size in divisors
        if size >= MIN_HEAD_CHANNELS
    ] + [
        replace(given, head_channels=None, num_heads=number)
        for number in COMMON_HEADS
        if number in divisors
    ]
    by_sizes = {given.head_sizes(widths): given}
    for settings in heads:  # several options may mean the same
        by_sizes.setdefault(settings.head_sizes(widths), settings)
    found += by_sizes.values()
    return [settings for settings in dict.fromkeys(found) if settings != given]


def find_widths(config: dict) -> Set[int]:
    """Return the channels of all attention blocks."""
    widths = config['block_out_channels']
    kinds = config['down_block_types']
    attending = [w for w, kind in zip(widths, kinds) if 'Attn' in kind]
    return {*attending, widths[-1]}


def load_weights(
    denoiser: Any, weights: StateDict, config: dict, settings: Settings
) -> None:
    """Load the weights as if they were trained with these settings."""
    size, number = settings.head_channels, settings.num_heads
    architecture = {**config, 'attention_head_dim': size}
    denoiser.load_state_dict(
        convert_weights(
            weights, architecture, settings.attention_order, number
        )
    )
    for module in denoiser.modules():
        if hasattr(module, 'to_q'):
            width = module.to_q.out_features
            module.heads = number or width // (size or width)


@functools.lru_cache(maxsize=1)
def load_photographs(side: int) -> torch.Tensor:
    """Load two photographs, 2 x 3 x side x side in [-1, 1]."""
    from sklearn.datasets import load_sample_images

    photographs = np.stack(load_sample_images().images)[:, :, :427]
    return F.interpolate(
        torch.from_numpy(photographs).movedim(3, 1) / 127.5 - 1,
        size=(side, side),
        mode='bilinear',
        antialias=True,
    )


@torch.no_grad()
def denoising_error(denoiser: Any, alphas_cumprod: torch.Tensor) -> float:
    """Return the mean squared error of the predicted noise, of variance 1.

    The noise levels are the same for every schedule. Class-conditional
    denoisers run without a class.
    """
    images = load_photographs(denoiser.config.sample_size)
    noise = torch.randn(images.shape, generator=torch.manual_seed(0))
    embedding, denoiser.class_embedding = denoiser.class_embedding, None
    errors = []
    for level in NOISE_LEVELS:
        sample = level**0.5 * images + (1 - level) ** 0.5 * noise
        t = int((alphas_cumprod - level).abs().argmin())
        timesteps = torch.full((len(images),), t)
        predicted = denoiser(sample, timesteps).sample[:, :3]
        errors.append((predicted - noise).pow(2).mean().item())
    denoiser.class_embedding = embedding
    return sum(errors) / len(errors)


def build_scheduler(settings: Settings) -> Any:
    """Build the noise schedule of the training.

    guided-diffusion scales linear betas with the number of steps. With
    rescaled timesteps, the denoiser is given 1000 t / T, so that the schedule
    has 1,000 timesteps, which are every (T / 1000)-th one of the training.

    Raises:
        ValueError: The rescaled timesteps do not include all integers from 0
            to 999, or betas are not below 1.
    """
    from diffusers import DDPMScheduler  # slow to import

    steps = settings.diffusion_steps
    arguments: dict = dict(beta_schedule='squaredcos_cap_v2')
    if settings.schedule == 'linear':
        scale = 1000 / steps
        arguments = dict(beta_start=0.0001 * scale, beta_end=0.02 * scale)
    scheduler: Any = DDPMScheduler(num_train_timesteps=steps, **arguments)
    if scheduler.betas.max() >= 1:
        raise ValueError(
            'expected --diffusion-steps of at least 21 with --schedule '
            f'linear, got {steps}, with which betas are not below 1'
        )
    if settings.rescale_timesteps == 'no' or steps == 1000:
        return scheduler
    if steps % 1000:
        raise ValueError(
            'expected --diffusion-steps to be a multiple of 1000 with '
            f'--rescale-timesteps yes, got {steps}, with which the timesteps '
            f'of the training, 1000 t / {steps}, do not include all integers '
            'from 0 to 999; such a denoiser cannot be converted'
        )
    kept = scheduler.alphas_cumprod[:: steps // 1000].double()
    betas = 1 - kept / torch.cat([kept.new_ones(1), kept[:-1]])
    return DDPMScheduler(
        num_train_timesteps=1000, trained_betas=betas.tolist()
    )
