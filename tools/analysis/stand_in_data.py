"""Pictures in place of a classification data set that is not on this disk.

They go through the config's own pipeline, sampler and collation, so that the
pace of a data loader, or of a training step, can be measured without the data.
"""

import atexit
import copy
import shutil
import tempfile
from pathlib import Path
from typing import Iterator, List, Optional, Tuple, Union

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset, ConcatDataset
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset

#: Height and width of the pictures in a data root; most, where they vary.
USUAL_SIZES = {
    'cifar10': (32, 32),
    'digits': (16, 16),
    'tiny-imagenet-200': (64, 64),
    'imagenet': (375, 500),
    'CelebAMask-HQ': (1024, 1024),
}
#: Files that are written; images beyond them come again.
MAX_FILES = 200


class SyntheticDataset(BaseDataset):
    """Serve given infos as OpenMMLab's data sets serve theirs."""

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
    image_size: Union[int, Tuple[int, int], None] = None,
) -> DataLoader:
    """Build a config's training loader, of stand-ins where data are missing.

    Args:
        cfg: Any config with a ``train_dataloader``.
        batch_size: The config's by default.
        num_workers: Likewise.
        num_images: Images in an epoch at most, unless the sampler says it.
        image_size: Of stand-ins, see ``synthetic_dataset``.

    Returns:
        The loader; ``describe(loader)`` says which data it serves.

    Raises:
        SystemExit: Data are missing that have no stand-in.
    """
    loader = copy.deepcopy(cfg.train_dataloader)
    if batch_size is not None:
        loader.batch_size = batch_size
    if num_workers is not None:
        loader.num_workers = num_workers
        loader.persistent_workers = num_workers > 0
    num_images = max(num_images, loader.batch_size)
    if any(missing_roots(loader.dataset)):
        loader.dataset = synthetic_dataset(cfg, num_images, image_size)
    else:
        loader.dataset = DATASETS.build(loader.dataset)
        loader.dataset.full_init()
    if len(loader.dataset) > num_images:
        loader.num_batch_per_epoch = num_images // loader.batch_size
    return Runner.build_dataloader(loader, seed=0)


def synthetic_dataset(
    cfg: Config,
    num_images: int,
    image_size: Union[int, Tuple[int, int], None] = None,
) -> Dataset:
    """Return pictures and random labels behind the config's own pipeline.

    A pipeline that begins by loading gets the paths of JPEG files in a folder
    that is removed at exit, any other one the arrays themselves.

    Args:
        cfg: The config of a training on ``mmpretrain``'s data sets.
        num_images: Images in each part of a ``ConcatDataset``.
        image_size: Their side, or height and width, in pixels; by default
            what is usual in the config's ``data_root``.

    Raises:
        SystemExit: The config needs other labels than classes, or the size is
            not known.
    """
    parts = [
        _synthetic(part, cfg, num_images, image_size)
        for part in leaves(cfg.train_dataloader.dataset)
    ]
    return parts[0] if len(parts) == 1 else ConcatDataset(parts)


def describe(loader: DataLoader) -> str:
    """Say which data a loader serves."""
    dataset = loader.dataset
    parts = getattr(dataset, 'datasets', [dataset])
    kinds = {type(getattr(part, '_dataset', part)) for part in parts}
    if SyntheticDataset in kinds:
        return 'stand-in pictures, for the data are not on this disk'
    return f'the data on this disk ({", ".join(k.__name__ for k in kinds)})'


def leaves(dataset: dict) -> Iterator[dict]:
    """Yield the configs of the data sets within wrappers."""
    parts = dataset.get('datasets') or [dataset.get('dataset')]
    if parts == [None]:
        yield dataset
    else:
        for part in parts:
            yield from leaves(part)


def missing_roots(dataset: dict) -> Iterator[str]:
    """Yield the data roots that are not on this disk."""
    for part in leaves(dataset):
        root = part.get('data_root', '')
        if not Path(root).exists():
            yield root


def _synthetic(
    dataset: dict,
    cfg: Config,
    num_images: int,
    image_size: Union[int, Tuple[int, int], None],
) -> SyntheticDataset:
    root = dataset.get('data_root', '')
    scope = [cfg.get('default_scope', 'mmengine'), *dataset.type.split('.')]
    if scope[-2] != 'mmpretrain':
        raise SystemExit(
            f'error: expected the data of {dataset.type} in {root!r}: label '
            'maps and key points have no stand-in'
        )
    size = image_size or USUAL_SIZES.get(Path(root).name)
    if size is None:
        raise SystemExit(
            f'error: expected data in {root!r} or the size of their stand-ins '
            f'(image_size), which is known for {list(USUAL_SIZES)} alone'
        )
    size = (size, size) if isinstance(size, int) else size
    rng = np.random.default_rng(0)
    pictures = [draw(rng, *size) for _ in range(min(num_images, MAX_FILES))]
    if dataset.pipeline[0].type.endswith(('LoadImage', 'LoadImageFromFile')):
        infos = [dict(img_path=str(path)) for path in write(pictures)]
    else:
        infos = [dict(img=picture) for picture in pictures]
    infos = [dict(infos[i % len(infos)]) for i in range(num_images)]
    if dataset.get('with_label', True):
        head = cfg.model.get('decoder') or cfg.model.get('head') or {}
        for info in infos:
            info['gt_label'] = int(rng.integers(head.get('num_classes', 10)))
    return SyntheticDataset(infos, dataset.pipeline)


def draw(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return H x W x 3 bytes like a photograph's: smooth, with some noise."""
    small = rng.integers(0, 256, (8, 8, 3)).astype(np.float32)
    smooth = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    noise = rng.normal(0, 8, smooth.shape)
    return (smooth + noise).clip(0, 255).astype(np.uint8)


def write(pictures: List[np.ndarray]) -> List[Path]:
    """Write JPEG files into a folder that is removed at exit."""
    folder = Path(tempfile.mkdtemp(prefix='stand_in_'))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    paths = [folder / f'{i}.jpg' for i in range(len(pictures))]
    for path, picture in zip(paths, pictures):
        cv2.imwrite(str(path), picture)
    return paths
