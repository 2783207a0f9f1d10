"""Synthetic images in place of a classification dataset that is missing.

They pass through the config's own pipeline, sampler and collation, so that
data loaders and training steps can be timed without the data.
"""

from __future__ import annotations

import atexit
import copy
import shutil
import tempfile
from pathlib import Path
from typing import Any, Dict, List

import cv2
import numpy as np
from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset

#: Height and width of the images in a data root; the largest if they vary.
USUAL_SIZES = {
    'cifar10': (32, 32),
    'digits': (16, 16),
    'tiny-imagenet-200': (64, 64),
    'imagenet': (375, 500),
    'CelebAMask-HQ': (1024, 1024),
}
#: Wrappers that only change the length of an epoch.
LONGER = ('RepeatDataset', 'ClassBalancedDataset')
#: Number of different images; a longer dataset repeats them.
MAX_IMAGES = 200


class SyntheticDataset(BaseDataset):
    """Serve given data infos through a pipeline."""

    def __init__(self, infos: List[dict], pipeline: List[dict]) -> None:
        self.infos = infos
        super().__init__(ann_file='', pipeline=pipeline)

    def load_data_list(self) -> List[dict]:
        """Return the infos."""
        return self.infos


def build_train_loader(
    cfg: Config, num_images: int, **settings: int
) -> DataLoader:
    """Build a config's training loader, with synthetic images if data miss.

    Args:
        cfg: Any config with a ``train_dataloader``.
        num_images: Most images in an epoch, unless the sampler sets its own
            number.
        settings: Changes of the loader, such as ``num_workers=0``.

    Raises:
        FileNotFoundError: Data are missing that cannot be synthesized.
    """
    loader = copy.deepcopy(cfg.train_dataloader)
    loader.update(settings)
    loader.persistent_workers = loader.num_workers > 0
    num_images = max(num_images, loader.batch_size)
    loader.dataset = _build(loader.dataset, cfg, num_images)
    if len(loader.dataset) > num_images:
        loader.num_batch_per_epoch = num_images // loader.batch_size
    return Runner.build_dataloader(loader, seed=0)


def describe_data(loader: DataLoader) -> str:
    """Return which data a loader serves, for a report."""
    # mmengine wraps the dataset to limit the batches of an epoch.
    dataset = getattr(loader.dataset, '_dataset', loader.dataset)
    parts = getattr(dataset, 'datasets', [dataset])
    if any(isinstance(part, SyntheticDataset) for part in parts):
        return 'synthetic images (the dataset is not on this disk)'
    names = sorted({type(part).__name__ for part in parts})
    return f'the dataset on this disk ({", ".join(names)})'


def _has_class_labels(dataset_type: Any, cfg: Config) -> bool:
    """Return whether a dataset is one of mmpretrain's or a subclass."""
    from mmpretrain.datasets import BaseDataset as ClassificationDataset

    if isinstance(dataset_type, str):
        scope = cfg.get('default_scope', 'mmengine')
        with DATASETS.switch_scope_and_registry(scope) as registry:
            dataset_type = registry.get(dataset_type)
    return isinstance(dataset_type, type) and issubclass(
        dataset_type, ClassificationDataset
    )


def _build(dataset: ConfigDict, cfg: Config, num_images: int) -> Dataset:
    """Build a dataset, with synthetic images in place of missing parts."""
    if dataset.get('datasets'):
        parts = [_build(part, cfg, num_images) for part in dataset.datasets]
        return DATASETS.build(dict(dataset, datasets=parts))
    if dataset.get('dataset'):
        kind = str(dataset.type).split('.')[-1].strip("'>")
        if kind in LONGER:
            return _build(dataset.dataset, cfg, num_images)
        if Path(dataset.dataset.get('data_root', '')).exists():
            return DATASETS.build(dataset)
        raise FileNotFoundError(
            f'expected the data of {kind} in '
            f'{dataset.dataset.get("data_root", "")!r}, got nothing there; '
            'only datasets without it can be synthesized'
        )
    if Path(dataset.get('data_root', '')).exists():
        return DATASETS.build(dataset)
    root = dataset.get('data_root', '')
    size = USUAL_SIZES.get(Path(root).name)
    if size is None or not _has_class_labels(dataset.type, cfg):
        raise FileNotFoundError(
            f'expected the data of {dataset.type} in {root!r}, got nothing '
            'there; only images with class labels can be synthesized, in '
            f'place of {", ".join(USUAL_SIZES)}'
        )
    rng = np.random.default_rng(0)
    folder = None
    if dataset.pipeline[0].type.endswith(('LoadImage', 'LoadImageFromFile')):
        folder = tempfile.mkdtemp(prefix='synthetic_')
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    infos: List[Dict[str, Any]] = []
    for number in range(min(num_images, MAX_IMAGES)):
        # Smooth with some noise, like a photograph.
        small = rng.uniform(0, 255, (8, 8, 3))
        image = cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)
        image = image + rng.normal(0, 8, image.shape)
        image = image.clip(0, 255).astype(np.uint8)
        if folder:
            path = f'{folder}/{number}.jpg'
            cv2.imwrite(path, image)
            infos.append(dict(img_path=path))
        else:
            infos.append(dict(img=image))
    infos = [dict(infos[i % len(infos)]) for i in range(num_images)]
    if dataset.get('with_label', True):
        head = cfg.model.get('decoder') or cfg.model.get('head') or {}
        for info in infos:
            info['gt_label'] = int(rng.integers(head.get('num_classes', 10)))
    return SyntheticDataset(infos, dataset.pipeline)
