"""A teacher that reads features from the data samples that carry them."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any, Dict, Optional, Sequence, Set

import numpy as np
import torch

from repfusion_mm.datasets.feature_cache.dataset import FEATS_FIELD, KEY_FIELD
from repfusion_mm.datasets.feature_cache.files import REWRITE, key_to_text
from repfusion_mm.models.teachers.base import BaseTeacher
from repfusion_mm.models.teachers.inputs.image_encoder import Posterior

#: Largest accepted distance between the cached and the live features of an
#: image, relative to the norm of the live ones. On the digits' teacher the
#: distance is 0.0002 by rounding to float16, 0.008 where another machine
#: rounds to bfloat16 differently, and 0.05 or more where the channels of
#: faintly colored digits are swapped.
TOLERANCE = 0.03


#: Part of the key of cached latents.
LATENTS = '"kind": "latents"'


class CachedTeacher(BaseTeacher):
    """Return cached features where a batch carries them, else live ones.

    The distiller wraps its teacher in this class, so that a dataset of type
    ``CachedFeaturesDataset`` or ``CachedLatentsDataset`` in the config is all
    that caching needs. With cached latents, only the denoiser is run.

    Args:
        live: The teacher that computes features.
    """

    def __init__(self, live: BaseTeacher) -> None:
        super().__init__()
        self.live = live
        self.feature_shapes = live.feature_shapes
        self.num_timesteps = live.num_timesteps
        self.image_size = live.image_size
        self._expected_key: Optional[str] = None
        self.freeze()

    def forward(
        self,
        images: torch.Tensor,
        timesteps: torch.Tensor,
        data_samples: Optional[Sequence] = None,
    ) -> Dict[str, torch.Tensor]:
        """Read or compute the features of a batch; see the base class.

        Raises:
            ValueError: Only some samples carry features; the features belong
                to another teacher, layer or timestep; or the features of this
                teacher cannot be cached.
        """
        samples = data_samples or ()
        carry = [FEATS_FIELD in sample for sample in samples]
        if not any(carry):
            return self.live(images, timesteps, data_samples)
        if not all(carry):
            raise ValueError(
                'expected cached features for all images of a batch or for '
                f'none, got {sum(carry)} of {len(carry)}; wrap every dataset '
                'in CachedFeaturesDataset, or none'
            )
        keys = {sample.get(KEY_FIELD) for sample in samples}
        if LATENTS in samples[0].get(KEY_FIELD):
            return self._extract(keys, images, timesteps, samples)
        self._check_keys(keys, timesteps)
        return {
            layer: _stack(samples, layer, images.device)
            for layer in self.feature_shapes
        }

    def _extract(
        self,
        keys: Set[str],
        images: torch.Tensor,
        timesteps: torch.Tensor,
        samples: Sequence,
    ) -> Dict[str, torch.Tensor]:
        """Compute the features of cached latents."""
        for key_text in keys:
            compare_keys(key_text, self._latents_key, 'latents')
        posterior = self._stack_latents(samples, images.device)
        live: Any = self.live
        return live.extract(live.draw(posterior), timesteps, samples)

    def _stack_latents(
        self, samples: Sequence, device: torch.device
    ) -> Posterior:
        stacked = {
            name: _stack(samples, name, device)
            for name in samples[0].get(FEATS_FIELD)
        }
        std = stacked.get('std', torch.zeros_like(stacked['mean']))
        return Posterior(stacked['mean'], std)

    def latents_key(self) -> dict:
        """Return what cached latents must belong to.

        Raises:
            ValueError: The teacher has no image encoder.
        """
        find = getattr(self.live, 'latents_fingerprint', None)
        if find is None:
            raise ValueError(
                'expected a latent diffusion model for cached latents, got '
                f'{type(self.live).__name__}; use CachedFeaturesDataset'
            )
        return find()

    def key(self, timestep: int) -> dict:
        """Return what cached features at ``timestep`` must belong to.

        Raises:
            ValueError: The features of this teacher cannot be cached.
        """
        return dict(self._live_fingerprint, timestep=timestep)

    @torch.no_grad()
    def compare_to_live(
        self,
        images: torch.Tensor,
        timesteps: torch.Tensor,
        data_samples: Sequence,
    ) -> None:
        """Raise a ValueError if cached features differ from live ones.

        This finds differences that no key holds: the order of the channels,
        the resizing, other versions of the libraries.
        """
        if LATENTS in data_samples[0].get(KEY_FIELD):
            self(images, timesteps, data_samples)  # compares the keys
            encoder: Any = self.live
            lives = dict(latents=encoder.encode_latents(images).mean)
            device = images.device
            cached = dict(latents=self._stack_latents(data_samples, device)[0])
        else:
            cached = self(images, timesteps, data_samples)
            lives = self.live(images, timesteps)
        for layer, live in lives.items():
            distances = (cached[layer] - live).flatten(1).norm(dim=1)
            distance = (distances / live.flatten(1).norm(dim=1)).max()
            if not distance <= TOLERANCE:  # true for NaN as well
                raise ValueError(
                    f'expected cached features of {layer!r} within '
                    f"{TOLERANCE} of the teacher's, relative to their norm, "
                    f'got {float(distance):.3g}: the channel order, the data '
                    'preprocessor or the versions of the libraries differ '
                    f'from those that wrote the cache; {REWRITE}'
                )

    @cached_property
    def _latents_key(self) -> str:
        return key_to_text(self.latents_key())  # hashes all weights: once

    @cached_property
    def _live_fingerprint(self) -> Dict[str, object]:
        return self.live.fingerprint()  # hashes all weights: once

    def _check_keys(self, keys: Set[str], timesteps: torch.Tensor) -> None:
        # Reading timesteps from a GPU would synchronize with it, so only
        # those of the first batch are read there.
        if self._expected_key is None or timesteps.device.type == 'cpu':
            values = timesteps.unique().tolist()
            if len(values) != 1:
                raise ValueError(
                    'expected one timestep for all images with cached '
                    f'features, got {values[:5]}; use FixedTimestepPolicy, or '
                    'distill without CachedFeaturesDataset'
                )
            self._expected_key = key_to_text(self.key(values[0]))
        for key_text in keys:
            compare_keys(key_text, self._expected_key)


def _stack(samples: Sequence, name: str, device: torch.device) -> torch.Tensor:
    """Return cached arrays of N samples as one float32 tensor."""
    arrays = [sample.get(FEATS_FIELD)[name] for sample in samples]
    stacked = torch.from_numpy(np.stack(arrays))
    if device.type == 'cuda':
        stacked = stacked.pin_memory()
    return stacked.to(device, non_blocking=True).float()


def compare_keys(cached: str, expected: str, kind: str = 'features') -> None:
    """Raise a ValueError that names the parts in which two keys differ."""
    if cached == expected:
        return
    theirs, ours = json.loads(cached), json.loads(expected)
    differences = [
        f'{part}: expected {_abbreviate(ours.get(part))}, '
        f'got {_abbreviate(theirs.get(part))}'
        for part in sorted({*theirs, *ours})
        if theirs.get(part) != ours.get(part)
    ]
    whose = 'this teacher, its layers and this timestep'
    if kind == 'latents':
        whose = "this teacher's image encoder and image size"
    raise ValueError(
        f'expected cached {kind} of {whose}, got others '
        f'({"; ".join(differences)}); {REWRITE}, or '
        'restore the settings of the model that wrote them'
    )


def _abbreviate(value: object) -> object:
    if isinstance(value, dict):
        return {name: _abbreviate(part) for name, part in value.items()}
    return value[:12] if isinstance(value, str) else value
