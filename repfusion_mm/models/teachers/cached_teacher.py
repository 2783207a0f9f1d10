"""A teacher that reads features from the data samples that carry them."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Dict, Optional, Sequence

import numpy as np
import torch

from repfusion_mm.datasets.feature_cache.dataset import FEATS_FIELD, KEY_FIELD
from repfusion_mm.datasets.feature_cache.files import REWRITE, key_to_text
from repfusion_mm.models.teachers.base import BaseTeacher

#: Largest accepted distance between the cached and the live features of an
#: image, relative to the norm of the live ones. On the digits' teacher the
#: distance is 0.0002 by rounding to float16, 0.008 where another machine
#: rounds to bfloat16 differently, and 0.05 or more where the channels of
#: faintly colored digits are swapped.
TOLERANCE = 0.03


class CachedTeacher(BaseTeacher):
    """Return cached features where a batch carries them, else live ones.

    The distiller wraps its teacher in this class, so that a dataset of type
    ``CachedFeaturesDataset`` in the config is all that caching needs.

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
        self._check_keys([s.get(KEY_FIELD) for s in samples], timesteps)
        feats = {}
        for layer in self.feature_shapes:
            arrays = [sample.get(FEATS_FIELD)[layer] for sample in samples]
            feat = torch.from_numpy(np.stack(arrays))
            if images.is_cuda:
                feat = feat.pin_memory()
            feats[layer] = feat.to(images.device, non_blocking=True).float()
        return feats

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
        cached = self(images, timesteps, data_samples)
        for layer, live in self.live(images, timesteps).items():
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
    def _live_fingerprint(self) -> Dict[str, object]:
        return self.live.fingerprint()  # hashes all weights: once

    def _check_keys(
        self, keys: Sequence[str], timesteps: torch.Tensor
    ) -> None:
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
        for key_text in set(keys):
            compare_keys(key_text, self._expected_key)


def compare_keys(cached: str, expected: str) -> None:
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
    raise ValueError(
        'expected cached features of this teacher, its layers and this '
        f'timestep, got others ({"; ".join(differences)}); {REWRITE}, or '
        'restore the settings of the model that wrote them'
    )


def _abbreviate(value: object) -> object:
    return value[:12] if isinstance(value, str) else value
