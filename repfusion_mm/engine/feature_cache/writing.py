"""Write the teacher's features of a config's training images to disk."""

from __future__ import annotations

import copy
import math
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.logging import print_log
from mmengine.registry import init_default_scope
from mmengine.utils import ProgressBar
from mmengine.utils.dl_utils import set_multi_processing
from torch.utils.data import DataLoader, Dataset

from repfusion_mm.datasets.feature_cache.dataset import (
    NOT_REPEATABLE,
    CachedFeaturesDataset,
    split_cached,
)
from repfusion_mm.datasets.feature_cache.files import META
from repfusion_mm.datasets.feature_cache.writer import FeatureWriter
from repfusion_mm.engine.feature_cache.checks import (
    check_cacheable,
    check_cached_features,
    prepare_teacher_inputs,
)
from repfusion_mm.engine.preflight.pixels import check_pixels
from repfusion_mm.engine.settings.names import SETTINGS
from repfusion_mm.registry import DATASETS, MODELS

#: Number of rows that are drawn several times before any is written.
NUM_CHECKED = 4


def write_feature_caches(
    cfg: Config,
    device: str,
    batch_size: Optional[int] = None,
    overwrite: bool = False,
) -> None:
    """Write the caches of all ``CachedFeaturesDataset`` of a config.

    If only some of them exist, these are checked and kept.

    Args:
        cfg: Config of a distillation.
        device: The device that the teacher runs on.
        batch_size: Images per batch, by default as in training.
        overwrite: Whether to replace existing caches.

    Raises:
        ValueError: A training dataset is not a ``CachedFeaturesDataset``, its
            views are not repeatable, its folder is in use, there is not
            enough disk space, the model's features cannot be cached, or a
            cache that is kept belongs to another model.
    """
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    set_multi_processing(**cfg.get('env_cfg', {}).get('mp_cfg', {}))
    parts = _build_datasets(cfg)
    datasets = _select_unwritten(parts, overwrite)
    for dataset in datasets:
        _check_views(dataset)
    model = MODELS.build(cfg.model).to(device)
    for part in parts:
        if part not in datasets:
            check_cached_features(part, model)
            print_log(f'{part.folder}: an existing cache, which is kept')
    total = 0
    for dataset in datasets:
        check_cacheable(model, dataset.kind)
        check_pixels(dataset, model)
        total += _check_space(
            dataset, _make_key(model, dataset)['layers'], total
        )
    for dataset in datasets:
        write_features(
            model,
            dataset,
            batch_size or cfg.train_dataloader.batch_size,
            cfg.train_dataloader.get('num_workers', 0),
        )


def wrap_in_latents(cfg: Config, folder: str, num_views: int) -> Config:
    """Return a config that trains on cached latents of its images.

    It has no variables that nothing reads, such as ``max_epochs``.

    Args:
        cfg: Config of a distillation.
        folder: Folder of the caches, one for each part of the dataset.
        num_views: Number of views of each image.

    Raises:
        ValueError: A part of the dataset is cached already.
    """
    names = SETTINGS - {'work_dir'}  # a run of its own
    cfg = Config({k: copy.deepcopy(cfg[k]) for k in cfg if k in names})
    loader = cfg.train_dataloader
    parts = loader.dataset.get('datasets')
    wrapped = []
    for index, part in enumerate(parts or [loader.dataset]):
        name = str(part.get('type')).rpartition('.')[2]
        if name in ('CachedFeaturesDataset', 'CachedLatentsDataset'):
            raise ValueError(
                f'expected datasets without a cache for --latents, got {name}'
                '; leave --latents out to write the caches of this config, or '
                'give the config that it was made from'
            )
        wrapped.append(
            dict(
                type='repfusion_mm.CachedLatentsDataset',
                dataset=part,
                folder=f'{folder}/{index}',
                num_views=num_views,
            )
        )
    if parts:
        loader.dataset.datasets = wrapped
    else:
        loader.dataset = wrapped[0]
    return cfg


def write_features(
    model: Any,
    dataset: CachedFeaturesDataset,
    batch_size: int,
    num_workers: int = 0,
) -> None:
    """Write the features of a dataset, for a cacheable model."""
    loader = DataLoader(
        _Views(dataset),
        batch_size=batch_size,
        num_workers=num_workers,
        collate_fn=pseudo_collate,
    )
    key = _make_key(model, dataset)
    start = time.time()
    progress = ProgressBar(len(dataset), file=sys.stdout)
    with FeatureWriter(dataset.folder, key, dataset.settings) as writer:
        for batch in loader:
            images, timesteps, _ = prepare_teacher_inputs(model, batch)
            if dataset.kind == 'latents':
                posterior = model.teacher.live.encode_latents(images)
                feats = posterior._asdict()
            else:
                feats = model.teacher.live(images, timesteps)
            writer.write(
                [image.numpy() for image in batch['inputs']],
                {layer: feat.cpu().numpy() for layer, feat in feats.items()},
            )
            progress.update(len(batch['inputs']))
    seconds = time.time() - start
    print_log(
        f'\n{len(dataset)} rows of {len(set(writer.input_crcs))} different '
        f'images in {seconds:.1f} s, {len(dataset) / seconds:.1f} per second'
    )


def _make_key(model: Any, dataset: CachedFeaturesDataset) -> dict:
    """Return what the cached arrays belong to."""
    if dataset.kind == 'latents':
        return model.teacher.latents_key()
    return model.teacher.key(int(model.policy.timesteps[0]))


class _Views(Dataset):
    """The rows of a cached dataset, without features."""

    def __init__(self, dataset: CachedFeaturesDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, row: int) -> dict:
        return self.dataset.view(row)

    def __len__(self) -> int:
        return len(self.dataset)


def _build_datasets(cfg: Config) -> List[CachedFeaturesDataset]:
    """Build the training dataset, and return its parts."""
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    dataset.full_init()
    cached, live = split_cached(dataset)
    if live:
        raise ValueError(
            'expected train_dataloader.dataset to be a CachedFeaturesDataset, '
            f'got {type(live[0]).__name__}; wrap it: '
            "train_dataloader = dict(dataset=dict(datasets=[dict(type='"
            "repfusion_mm.CachedFeaturesDataset', dataset=_base_."
            'train_dataloader.dataset.datasets[0], '
            "folder='work_dirs/features/NAME')]))"
        )
    folders = [part.folder for part in cached]
    if len(set(folders)) < len(folders):
        raise ValueError(
            'expected a different folder for each CachedFeaturesDataset, got '
            f'{folders}; change train_dataloader.dataset'
        )
    return cached


def _select_unwritten(
    parts: List[CachedFeaturesDataset], overwrite: bool
) -> List[CachedFeaturesDataset]:
    """Return those of the parts of a dataset whose caches are written."""
    for part in parts:
        folder = Path(part.folder)
        if folder.exists() and not (folder / META).is_file():
            raise ValueError(
                f'expected a feature cache or nothing at {part.folder!r}, got '
                'something else; remove it yourself, or change the folder'
            )
    if overwrite:
        return parts
    unwritten = [part for part in parts if not Path(part.folder).exists()]
    if not unwritten:
        raise ValueError(
            f'expected no feature cache at {parts[0].folder!r}, got one; add '
            '--overwrite to replace it, or change the folder'
        )
    return unwritten


def _check_views(dataset: CachedFeaturesDataset) -> None:
    for row in range(min(NUM_CHECKED, len(dataset))):
        if not dataset.is_repeatable(row):
            raise ValueError(
                f'expected row {row} to be the same each time it is drawn, '
                f'got different images: {NOT_REPEATABLE}'
            )


def _check_space(
    dataset: CachedFeaturesDataset,
    layers: Dict[str, Sequence[int]],
    others: int,
) -> int:
    """Log and return the size of the cache, and check the free space.

    ``others`` is the size of the caches that are written before it.
    """
    size = len(dataset) * sum(2 * math.prod(s) for s in layers.values())
    shapes = ', '.join(f'{k} {tuple(v)}' for k, v in layers.items())
    folder = Path(dataset.folder).absolute()
    existing = next(path for path in folder.parents if path.exists())
    free = shutil.disk_usage(existing).free
    print_log(
        f'{dataset.folder}: {len(dataset)} rows '
        f'({len(dataset.dataset)} images, {dataset.num_views} views), '
        f'float16 of {shapes}: {_format_size(size)}, of {_format_size(free)} '
        'free'
    )
    if others + size > free:
        raise ValueError(
            f'expected {_format_size(others + size)} of free disk space at '
            f'{str(existing)!r}, got {_format_size(free)}; cache fewer views '
            'or layers, or change the folder (an existing cache is removed '
            'only after the new one is complete)'
        )
    return size


def _format_size(num_bytes: int) -> str:
    scale, unit = (1e9, 'GB') if num_bytes >= 1e9 else (1e6, 'MB')
    return f'{num_bytes / scale:.2f} {unit}'
