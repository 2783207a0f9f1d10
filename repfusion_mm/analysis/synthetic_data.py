"""Synthetic images in place of a classification data set that is missing.

They pass through the config's own pipeline, sampler and collation, so that
data loaders and training steps can be timed without the data.
"""

from __future__ import annotations

import atexit
import copy
import shutil
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

import cv2
import numpy as np
from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset

ImageSize = Union[int, Tuple[int, int], None]

#: Height and width of the images in a data root; the largest if they vary.
USUAL_SIZES = {
    'cifar10': (32, 32),
    'digits': (16, 16),
    'tiny-imagenet-200': (64, 64),
    'imagenet': (375, 500),
    'CelebAMask-HQ': (1024, 1024),
}
#: Number of different images; a longer data set repeats them.
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
    cfg: Config,
    batch_size: Optional[int] = None,
    num_workers: Optional[int] = None,
    num_images: int = 2048,
    image_size: ImageSize = None,
) -> DataLoader:
    """Build a config's training loader, with synthetic images if data miss.

    Args:
        cfg: Any config with a ``train_dataloader``.
        batch_size: Images in a batch; the config's by default.
        num_workers: Worker processes; the config's by default.
        num_images: Most images in an epoch, unless the sampler sets its own
            number.
        image_size: Size of synthetic images, see ``build_synthetic``.

    Raises:
        FileNotFoundError: Data are missing that cannot be synthesized.
    """
    loader = copy.deepcopy(cfg.train_dataloader)
    if batch_size is not None:
        loader.batch_size = batch_size
    if num_workers is not None:
        loader.num_workers = num_workers
        loader.persistent_workers = num_workers > 0
    num_images = max(num_images, loader.batch_size)
    if all(_is_on_disk(part) for part in _leaves(loader.dataset)):
        loader.dataset = DATASETS.build(loader.dataset)
        loader.dataset.full_init()
    else:
        loader.dataset = build_synthetic(
            loader.dataset, cfg, num_images, image_size
        )
    if len(loader.dataset) > num_images:
        loader.num_batch_per_epoch = num_images // loader.batch_size
    return Runner.build_dataloader(loader, seed=0)


def describe_data(loader: DataLoader) -> str:
    """Return which data a loader serves, for a report."""
    # mmengine wraps the data set to limit the batches of an epoch.
    dataset = getattr(loader.dataset, '_dataset', loader.dataset)
    parts = getattr(dataset, 'datasets', [dataset])
    if any(isinstance(part, SyntheticDataset) for part in parts):
        return 'synthetic images (the data set is not on this disk)'
    names = sorted({type(part).__name__ for part in parts})
    return f'the data set on this disk ({", ".join(names)})'


def build_synthetic(
    dataset: ConfigDict,
    cfg: Config,
    num_images: int,
    image_size: ImageSize = None,
) -> Dataset:
    """Build a data set of synthetic images and random labels.

    A pipeline that begins with loading reads JPEG files from a folder that is
    removed at exit; any other one gets the arrays.

    Args:
        dataset: Config of one of mmpretrain's data sets. Concatenations keep
            their type, other wrappers are left out.
        cfg: The whole config, whose model names the number of classes.
        num_images: Number of images in each part of a concatenation.
        image_size: Side, or height and width, in pixels; by default the usual
            size in the data set's ``data_root``.

    Raises:
        FileNotFoundError: The data set has other labels than classes, or its
            image size is unknown.
    """
    if dataset.get('datasets'):
        parts = [
            build_synthetic(part, cfg, num_images, image_size)
            for part in dataset['datasets']
        ]
        return DATASETS.build(dict(dataset, datasets=parts))
    if dataset.get('dataset'):
        return build_synthetic(dataset['dataset'], cfg, num_images, image_size)
    height, width = _find_size(dataset, cfg, image_size)
    rng = np.random.default_rng(0)
    images = [
        draw_image(rng, height, width)
        for _ in range(min(num_images, MAX_IMAGES))
    ]
    infos: List[Dict[str, Any]]
    if dataset.pipeline[0].type.endswith(('LoadImage', 'LoadImageFromFile')):
        infos = [dict(img_path=str(path)) for path in _write_jpegs(images)]
    else:
        infos = [dict(img=image) for image in images]
    infos = [dict(infos[i % len(infos)]) for i in range(num_images)]
    if dataset.get('with_label', True):
        head = cfg.model.get('decoder') or cfg.model.get('head') or {}
        for info in infos:
            info['gt_label'] = int(rng.integers(head.get('num_classes', 10)))
    return SyntheticDataset(infos, dataset.pipeline)


def draw_image(
    rng: np.random.Generator, height: int, width: int
) -> np.ndarray:
    """Draw a smooth image with some noise, like a photograph.

    Returns:
        H x W x 3, uint8.
    """
    small = rng.integers(0, 256, (8, 8, 3)).astype(np.float32)
    smooth = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    noise = rng.normal(0, 8, smooth.shape)
    return (smooth + noise).clip(0, 255).astype(np.uint8)


def _leaves(dataset: dict) -> Iterator[dict]:
    """Yield the configs of the data sets within wrappers."""
    parts = dataset.get('datasets') or [dataset.get('dataset')]
    if parts == [None]:
        yield dataset
    else:
        for part in parts:
            yield from _leaves(part)


def _is_on_disk(dataset: dict) -> bool:
    return Path(dataset.get('data_root', '')).exists()


def _find_size(
    dataset: ConfigDict, cfg: Config, image_size: ImageSize
) -> Tuple[int, int]:
    root = dataset.get('data_root', '')
    scope = [cfg.get('default_scope', 'mmengine'), *dataset.type.split('.')]
    if scope[-2] != 'mmpretrain':
        raise FileNotFoundError(
            f'expected the data of {dataset.type} in {root!r}, got nothing '
            'there; only images with class labels can be synthesized'
        )
    size = image_size or USUAL_SIZES.get(Path(root).name)
    if size is None:
        raise FileNotFoundError(
            f'expected the data in {root!r}, or image_size for synthetic '
            'images, got neither; the size is known for '
            f'{", ".join(USUAL_SIZES)}'
        )
    return (size, size) if isinstance(size, int) else size


def _write_jpegs(images: List[np.ndarray]) -> List[Path]:
    folder = Path(tempfile.mkdtemp(prefix='synthetic_'))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    paths = [folder / f'{i}.jpg' for i in range(len(images))]
    for path, image in zip(paths, images):
        cv2.imwrite(str(path), image)
    return paths
