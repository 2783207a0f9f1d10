"""A few images on disk, and a feature cache of them by a toy teacher."""

from pathlib import Path

import cv2
import numpy as np
from mmengine.registry import DATASETS, MODELS, TRANSFORMS
from mmpretrain.datasets.transforms import RandomCrop

from repfusion_mm.engine.feature_cache.writing import write_features
from tests.helpers.toy import distiller_config

NUM_IMAGES = 6
LOAD = dict(type='mmpretrain.LoadImageFromFile')
CROP = dict(type='mmpretrain.RandomCrop', crop_size=16, padding=4)
PACK = dict(type='mmpretrain.PackInputs')


@TRANSFORMS.register_module()
class EntropyCrop(RandomCrop):
    """Crop at random by the system's entropy, which no seed controls."""

    def transform(self, results):
        np.random.seed()
        return super().transform(results)


def save_images(root: Path) -> None:
    """Write six images of noise, 16 pixels wide."""
    root.mkdir()
    rng = np.random.default_rng(0)
    for i in range(NUM_IMAGES):
        image = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        cv2.imwrite(str(root / f'{i}.png'), image)


def dataset_config(root, folder, pipeline=(LOAD, CROP, PACK), **settings):
    """Return the config of those images with cached features."""
    return dict(
        type='repfusion_mm.CachedFeaturesDataset',
        dataset=dict(
            type='mmpretrain.CustomDataset',
            data_root=str(root),
            with_label=False,
            pipeline=list(pipeline),
        ),
        folder=str(folder),
        **settings,
    )


def model_config(teacher_folder, **teacher) -> dict:
    """Return a distiller whose features can be cached."""
    config = distiller_config(
        decoder=None,
        policy=dict(type='repfusion_mm.FixedTimestepPolicy', timestep=100),
    )
    config['teacher'].pop('config')
    config['teacher'].update(
        {'pretrained': teacher_folder, 'dtype': 'float32', **teacher}
    )
    return config


def make_cache(tmp_path, teacher_folder, **settings):
    """Write a cache, and return its model and dataset."""
    if not (tmp_path / 'images').exists():
        save_images(tmp_path / 'images')
    config = dataset_config(
        tmp_path / 'images', tmp_path / 'features', **settings
    )
    dataset = DATASETS.build(config)
    model = MODELS.build(model_config(teacher_folder))
    write_features(model, dataset, batch_size=4)
    return model, dataset


def build_dataset(cache, pipeline=(LOAD, CROP, PACK), num_views=2, **settings):
    """Return the dataset of a cache that make_cache wrote."""
    return DATASETS.build(
        dataset_config(
            cache / 'images',
            cache / 'features',
            pipeline,
            num_views=num_views,
            **settings,
        )
    )
