"""Rewards over timesteps whose best timestep is known.

Each bandit gives images, and for every image the expected reward of each
timestep: a value in [0, 1], best 1, shifted by an offset as a decoder's
log-likelihood is. What is drawn is that plus Gaussian noise.
"""

from dataclasses import dataclass
from typing import Callable, List

import torch

NUM_TIMESTEPS = 1000


def peak(t: torch.Tensor, centre, width: float = 150.0) -> torch.Tensor:
    return torch.exp(-0.5 * ((t - centre) / width) ** 2)


def one_peak(t: torch.Tensor, bright: torch.Tensor) -> torch.Tensor:
    return peak(t, 200).expand(len(bright), -1)


def two_peaks(t: torch.Tensor, bright: torch.Tensor) -> torch.Tensor:
    value = torch.maximum(0.8 * peak(t, 200, 100), peak(t, 700, 100))
    return value.expand(len(bright), -1)


def plateau(t: torch.Tensor, bright: torch.Tensor) -> torch.Tensor:
    outside = (300 - t).clamp(min=0) + (t - 600).clamp(min=0)
    return peak(outside, 0, 100).expand(len(bright), -1)


def flat(t: torch.Tensor, bright: torch.Tensor) -> torch.Tensor:
    return torch.ones(len(bright), len(t))


def per_image(t: torch.Tensor, bright: torch.Tensor) -> torch.Tensor:
    return torch.where(bright[:, None], peak(t, 700), peak(t, 200))


@dataclass
class Bandit:
    """One reward landscape, at one offset and noise.

    Attributes:
        name: Unique.
        value: Maps K timesteps and N booleans to N x K values in [0, 1].
        offset: Added to all values.
        noise: Standard deviation of the rewards.
        improvement: By how much the offset rises during the run, as that of
            a decoder that learns; most of it in the first third.
        scale: Factor of the rewards.
    """

    name: str
    value: Callable
    offset: float
    noise: float
    improvement: float = 0.0
    scale: float = 1.0

    def scene(self, num_images: int, generator: torch.Generator):
        """Return images, N x 3 x 8 x 8 in [0, 1], and N x K values."""
        bright = torch.rand(num_images, generator=generator) < 0.5
        level = torch.where(bright, 0.7, 0.2).view(-1, 1, 1, 1)
        pixels = torch.rand(num_images, 3, 8, 8, generator=generator)
        timesteps = torch.arange(NUM_TIMESTEPS)
        return level + 0.1 * pixels, self.value(timesteps, bright)

    def reward(
        self,
        value: torch.Tensor,
        progress: float,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Return noisy rewards of N values; ``progress`` in [0, 1]."""
        behind = self.improvement * 2.718 ** (-9 * progress)
        noise = torch.randn(len(value), generator=generator)
        reward = self.offset - behind + value + self.noise * noise
        return self.scale * reward


def make_bandits() -> List[Bandit]:
    """Each landscape near zero with little noise, and far from it with much.

    -5.3 is the log-likelihood of 200 classes by chance.
    """
    landscapes = dict(
        one_peak=one_peak,
        two_peaks=two_peaks,
        plateau=plateau,
        flat=flat,
        per_image=per_image,
    )
    bandits = []
    for kind, offset, noise in (('near', -2.0, 0.3), ('far', -5.3, 1.0)):
        for name, value in landscapes.items():
            bandits.append(Bandit(f'{name}_{kind}', value, offset, noise))
        improving = Bandit(
            f'improving_{kind}', one_peak, offset, noise, improvement=3.0
        )
        bandits.append(improving)
    # Errors of key points are of the order of a hundredth.
    bandits.append(Bandit('one_peak_small', one_peak, -2.0, 0.3, scale=0.01))
    return bandits
