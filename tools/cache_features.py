"""Write the teacher's features of a config's training images to disk.

    cache_features.py CONFIG

The training data set must be a repfusion_mm.CachedFeaturesDataset, which says
where the features go and how many views each image has. tools/train.py then
reads them, and does not run the teacher. See docs/feature_cache.md.
"""

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import List, Optional

import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from mmengine.utils import ProgressBar
from mmengine.utils.dl_utils import set_multi_processing
from torch.utils.data import DataLoader, Dataset

from repfusion_mm.cli.config import load_config, make_parser
from repfusion_mm.cli.error_reporting import report_errors
from repfusion_mm.datasets.feature_cache.dataset import (
    UNGOVERNED,
    CachedFeaturesDataset,
)
from repfusion_mm.datasets.feature_cache.files import META, bytes_per_row
from repfusion_mm.datasets.feature_cache.writer import FeatureWriter
from repfusion_mm.engine.preflight import split_cached
from repfusion_mm.models.teachers.cached_teacher import (
    check_cacheable,
    extract_live,
)
from repfusion_mm.registry import DATASETS, MODELS

SNIPPET = """
    train_dataloader = dict(
        dataset=dict(
            _delete_=True,
            type='repfusion_mm.CachedFeaturesDataset',
            dataset=_base_.train_dataloader.dataset,
            folder='work_dirs/features/NAME',
        )
    )
"""
#: How many rows are drawn again before any is written.
NUM_CHECKED = 4


class Views(Dataset):
    """The rows of a cached data set, without features."""

    def __init__(self, dataset: CachedFeaturesDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, row: int) -> dict:
        return self.dataset.view(row)

    def __len__(self) -> int:
        return len(self.dataset)


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument('--device', default=get_device())
    parser.add_argument(
        '--batch-size', type=int, help='default: that of the training'
    )
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='replace a cache that lies there, once the new one is whole',
    )
    args = parser.parse_args(argv)
    if args.batch_size is not None and args.batch_size < 1:
        parser.error(
            f'expected --batch-size of 1 or more, got {args.batch_size}'
        )
    if args.device.startswith('cuda') and not torch.cuda.is_available():
        parser.error(f'expected a GPU for --device {args.device}, got none')
    return args


def build_datasets(cfg: Config) -> List[CachedFeaturesDataset]:
    """Build the training data set; return its parts, all of them cached."""
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    dataset.full_init()
    cached, live = split_cached(dataset)
    if live:
        raise SystemExit(
            f'{SNIPPET.strip()}\n\nexpected train_dataloader.dataset to be a '
            f'CachedFeaturesDataset, got {type(live[0]).__name__} without '
            'one; wrap it as above'
        )
    folders = [part.folder for part in cached]
    if len(set(folders)) < len(folders):
        raise SystemExit(
            f'expected a folder for each CachedFeaturesDataset, got {folders}'
        )
    return cached


def check_folder(dataset: CachedFeaturesDataset, overwrite: bool) -> None:
    """Refuse to replace what may not be replaced."""
    folder = Path(dataset.folder)
    if folder.exists() and not (folder / META).is_file():
        raise SystemExit(
            f'expected a feature cache or nothing at {dataset.folder!r}, got '
            'something else; remove it yourself, or change the folder'
        )
    if folder.exists() and not overwrite:
        raise SystemExit(
            f'expected no feature cache at {dataset.folder!r}, got one; add '
            '--overwrite to replace it, or change the folder'
        )


def check_views(dataset: CachedFeaturesDataset) -> None:
    """Refuse views that are not the same each time."""
    for row in range(min(NUM_CHECKED, len(dataset))):
        if not dataset.is_repeatable(row):
            raise SystemExit(
                f'expected row {row} to be the same each time it is drawn, '
                f'got others: {UNGOVERNED}'
            )


def check_space(dataset: CachedFeaturesDataset, layers: dict) -> None:
    """Say what will be written, and refuse it where it does not fit."""
    size = len(dataset) * bytes_per_row(layers)
    shapes = ', '.join(f'{k} {tuple(v)}' for k, v in layers.items())
    folder = Path(dataset.folder).absolute()
    there = next(path for path in folder.parents if path.exists())
    free = shutil.disk_usage(there).free
    print(
        f'{dataset.folder}: {len(dataset)} rows '
        f'({len(dataset.dataset)} images, {dataset.num_views} views), '
        f'float16 of {shapes}: {human(size)}, of {human(free)} free'
    )
    if size > free:
        raise SystemExit(
            f'expected {human(size)} of free disk space at {str(there)!r}, '
            f'got {human(free)}; take fewer views or layers, or another '
            'folder (a cache that is replaced goes when the new one is whole)'
        )


def write(
    model: nn.Module, dataset: CachedFeaturesDataset, loader: DataLoader
) -> None:
    """Write the features of all rows, and say how fast."""
    bar = ProgressBar(len(dataset))
    start = time.time()
    key = json.loads(model.feature_key)
    with FeatureWriter(dataset.folder, key, dataset.settings) as writer:
        for batch in loader:
            feats = extract_live(model, batch)
            writer.write(
                [image.numpy() for image in batch['inputs']],
                {layer: feat.cpu().numpy() for layer, feat in feats.items()},
            )
            bar.update(len(batch['inputs']))
    seconds = time.time() - start
    print(
        f'\n{len(dataset)} rows of {len(set(writer.input_crcs))} different '
        f'images in {seconds:.1f} s, {len(dataset) / seconds:.1f} a second'
    )


def human(num_bytes: int) -> str:
    """Return a size in MB or GB."""
    unit, name = (1e9, 'GB') if num_bytes >= 1e9 else (1e6, 'MB')
    return f'{num_bytes / unit:.2f} {name}'


def main(argv: Optional[List[str]] = None) -> None:
    args = parse_args(argv)
    cfg = load_config(args)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    set_multi_processing(**cfg.get('env_cfg', {}).get('mp_cfg', {}))
    datasets = build_datasets(cfg)
    for part in datasets:
        check_folder(part, args.overwrite)
        check_views(part)
    model = MODELS.build(cfg.model).to(args.device)
    check_cacheable(model)
    for part in datasets:
        check_space(part, model.teacher.feature_shapes)
        loader = DataLoader(
            Views(part),
            batch_size=args.batch_size or cfg.train_dataloader.batch_size,
            num_workers=cfg.train_dataloader.get('num_workers', 0),
            collate_fn=pseudo_collate,
        )
        write(model, part, loader)
    print(f'now distil: python tools/train.py {args.config}')


if __name__ == '__main__':
    with report_errors():
        main()
