"""Checks of a model and its cached features before the first iteration."""

from __future__ import annotations

from typing import Any, Tuple

import torch
from mmengine.dataset import pseudo_collate
from torch.utils.data import Dataset

from repfusion_mm.datasets.feature_cache.dataset import split_cached

#: Number of rows whose cached features are compared with live ones.
NUM_COMPARED = 4
#: Batch augmentations in the data preprocessors of OpenMMLab and this package.
AUGMENTS = ('batch_augments', 'augments')


def check_cached_features(dataset: Dataset, model: Any) -> None:
    """Check that a model can use the cached features, if its data has any.

    Raises:
        FileNotFoundError: There is no cache.
        ValueError: Only some of the datasets have cached features; the cache
            is damaged, or belongs to other images, another teacher, layer or
            timestep; or ``check_cacheable`` refuses the model.
    """
    cached, live = split_cached(dataset)
    if not cached:
        return
    if live:
        raise ValueError(
            'expected cached features for every part of the dataset or for '
            f'none, got {type(live[0]).__name__} without them; wrap it in '
            'CachedFeaturesDataset too'
        )
    for part in cached:
        check_cacheable(model, part.kind)
        step = -(-len(part) // NUM_COMPARED)
        rows = [part[row] for row in range(0, len(part), step)]
        model.teacher.compare_to_live(
            *prepare_teacher_inputs(model, pseudo_collate(rows))
        )


def check_cacheable(model: Any, kind: str) -> None:
    """Check that a model's teacher has one feature map for each image.

    Args:
        model: A distiller.
        kind: Whether its features are cached, or only its latents, which
            depend on no timestep and no noise.

    Raises:
        ValueError: The timestep, the teacher's input or the images change
            from step to step.
    """
    timesteps = model.policy.timesteps
    if kind == 'features' and len(timesteps) != 1:
        raise ValueError(
            'expected a policy of one timestep with cached features, got '
            f'{type(model.policy).__name__} with {len(timesteps)}; use '
            'FixedTimestepPolicy, or distill without CachedFeaturesDataset'
        )
    preprocessor = model.data_preprocessor
    for name in AUGMENTS:
        if getattr(preprocessor, name, None):
            raise ValueError(
                f'expected a data preprocessor without {name} with cached '
                f'features, got {type(preprocessor).__name__} with them, '
                'which change the images in each step; augment in the '
                'pipeline, or distill without CachedFeaturesDataset'
            )
    if kind == 'latents':
        model.teacher.latents_key()
    else:
        model.teacher.key(int(timesteps[0]))


def prepare_teacher_inputs(
    model: Any, batch: dict
) -> Tuple[torch.Tensor, torch.Tensor, list]:
    """Return what a training step at the first timestep gives the teacher.

    These are N x 3 x H x W RGB images in [0, 1], N timesteps, N data samples.
    """
    # In training mode, because only then mmseg pads images to its size.
    data = model.data_preprocessor(batch, True)
    images = model.images(data['inputs'])
    timesteps = model.policy.timesteps[:1].expand(len(images))
    return images, timesteps, data['data_samples']
