"""The teacher's features where data samples carry them."""

from __future__ import annotations

import json
from typing import Dict, Optional, Sequence

import numpy as np
import torch
import torch.nn as nn

from repfusion_mm.datasets.feature_cache.dataset import FEATS_FIELD, KEY_FIELD
from repfusion_mm.datasets.feature_cache.files import REWRITE, text_of
from repfusion_mm.models.teachers.fingerprint import fingerprint

#: Largest distance of an image's cached features from live ones, relative to
#: the live ones' norm. On the digits' teacher: 0.0002 by float16, 0.008 where
#: another machine rounds to bfloat16 otherwise, 0.05 and more where the
#: channels of faintly coloured digits are swapped.
TOLERANCE = 0.03
#: What data preprocessors call what they do to a batch in training: those of
#: mmpretrain, mmseg and mmpose, and this package's.
AUGMENTS = ('batch_augments', 'augments')
LIVE = 'or distil without CachedFeaturesDataset'


def read_cached(
    model: nn.Module, data_samples: Optional[Sequence], device: torch.device
) -> Optional[Dict[str, torch.Tensor]]:
    """Read the teacher's features from a batch's samples.

    Args:
        model: The distiller.
        data_samples: N samples, of which all carry features or none.
        device: Where the features are wanted.

    Returns:
        Per layer an N x C x h x w float32 map; None where no sample carries
        features.

    Raises:
        ValueError: Only some carry features, the model cannot use them, or
            they belong to another teacher, layer or timestep.
    """
    samples = data_samples or ()
    carry = [FEATS_FIELD in sample for sample in samples]
    if not any(carry):
        return None
    if not all(carry):
        raise ValueError(
            'expected cached features for all images of a batch or for none, '
            f'got {sum(carry)} of {len(carry)}; wrap every data set in '
            'CachedFeaturesDataset, or none'
        )
    check_cacheable(model)
    for text in {sample.get(KEY_FIELD) for sample in samples}:
        compare_keys(text, model.feature_key)
    return {
        layer: _to_device(
            np.stack([sample.get(FEATS_FIELD)[layer] for sample in samples]),
            device,
        )
        for layer in model.teacher.feature_shapes
    }


def make_key(model: nn.Module) -> str:
    """Say what cached features must belong to, as a text to compare."""
    timestep = int(model.policy.timesteps[0])
    return text_of(dict(fingerprint(model.teacher), timestep=timestep))


def check_cacheable(model: nn.Module) -> None:
    """Refuse a model whose teacher does not say the same each time.

    Raises:
        ValueError: The timestep, the teacher's input or the images change
            from step to step; which one is said.
    """
    teacher, timesteps = model.teacher, model.policy.timesteps
    if len(timesteps) != 1:
        raise ValueError(
            'expected a policy of one timestep with cached features, got '
            f'{type(model.policy).__name__} with {len(timesteps)}; use '
            f'FixedTimestepPolicy, {LIVE}'
        )
    if teacher.input_mode != 'clean':
        raise ValueError(
            "expected teacher.input_mode='clean' with cached features, got "
            f'{teacher.input_mode!r}, whose noise is drawn anew for each '
            f"step; use 'clean', {LIVE}"
        )
    if teacher.class_signal.kind != 'none':
        raise ValueError(
            "expected teacher.class_signal='none' with cached features, got "
            f'{teacher.class_signal.kind!r}, by which they depend on more '
            f"than the image; use 'none', {LIVE}"
        )
    preprocessor = model.data_preprocessor
    for name in AUGMENTS:
        if getattr(preprocessor, name, None):
            raise ValueError(
                f'expected a data preprocessor without {name} with cached '
                f'features, got {type(preprocessor).__name__} with them, '
                'which change images anew for each step; augment in the '
                f"data set's pipeline, {LIVE}"
            )


def compare_keys(cached: str, expected: str) -> None:
    """Refuse features of something else, and say of what.

    Raises:
        ValueError: The keys differ; each part that differs is named.
    """
    if cached == expected:
        return
    theirs, ours = json.loads(cached), json.loads(expected)
    parts = sorted({*theirs, *ours})
    differ = [
        f'{part}: expected {_short(ours, part)}, got {_short(theirs, part)}'
        for part in parts
        if theirs.get(part) != ours.get(part)
    ]
    raise ValueError(
        'expected cached features of this teacher, its layers and this '
        f'timestep, got others ({"; ".join(differ)}); {REWRITE}, or set the '
        'model as it was then'
    )


@torch.no_grad()
def extract_live(model: nn.Module, batch: dict) -> Dict[str, torch.Tensor]:
    """Run the teacher on a batch as a training step does.

    Args:
        model: A distiller whose features can be cached.
        batch: Of the data loader.

    Returns:
        Per layer an N x C x h x w float32 map.
    """
    # As in training, because mmseg pads to its size then alone.
    data = model.data_preprocessor(batch, True)
    images = model.images(data['inputs'])
    return model.teacher(images, model.policy.timesteps.expand(len(images)))


def compare_to_live(model: nn.Module, batch: dict) -> None:
    """Compare a batch's cached features with the teacher's.

    This sees what no key holds: the order of the channels, resizing, other
    versions of the libraries.

    Raises:
        ValueError: They are not the same within ``TOLERANCE``, or may not be
            read at all, as ``read_cached`` says.
    """
    device = model.policy.timesteps.device
    cached = read_cached(model, batch['data_samples'], device)
    for layer, live in extract_live(model, batch).items():
        distances = (cached[layer] - live).flatten(1).norm(dim=1)
        distance = (distances / live.flatten(1).norm(dim=1)).max()
        if not distance <= TOLERANCE:
            raise ValueError(
                f'expected cached features of {layer!r} within {TOLERANCE} '
                "of the teacher's, relative to their norm, got "
                f'{float(distance):.3g}: the channel order, the data '
                'preprocessor or the versions of the libraries are not those '
                f'that they were written with; {REWRITE}'
            )


def _short(key: dict, part: str) -> object:
    value = key.get(part)
    return value[:12] if isinstance(value, str) else value


def _to_device(feats: np.ndarray, device: torch.device) -> torch.Tensor:
    feats = torch.from_numpy(feats)
    if device.type == 'cuda':
        feats = feats.pin_memory()
    return feats.to(device, non_blocking=True).float()
