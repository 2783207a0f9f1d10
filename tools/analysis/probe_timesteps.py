"""Measure what each timestep of a teacher is worth, by linear probes.

A logistic regression is fitted on pooled teacher features of a few labelled
images and tested on the others, over several random splits.

    python tools/analysis/probe_timesteps.py CONFIG --num-labels 50

The images are those of ``probe_dataset`` in the config, or else the labelled
ones that the distillation trains on.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from rich.progress import track
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(Path(__file__).parents[1]))
from launch import load_config, make_parser

from repfusion_mm.models.losses import pool
from repfusion_mm.registry import MODELS

MAX_IMAGES = 5000


def probe(
    cfg: Config,
    timesteps: Sequence[int],
    num_labels: int,
    num_splits: int,
    max_images: int = MAX_IMAGES,
    seed: int = 0,
) -> Dict[int, float]:
    """Return the mean probe accuracy, in [0, 1], at each timestep.

    Raises:
        ValueError: A timestep outside the teacher's schedule, or too few
            labelled images.
    """
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    model = MODELS.build(cfg.model).to(get_device()).eval()
    length = model.teacher.num_timesteps
    wrong = [t for t in timesteps if not 0 <= t < length]
    if wrong:
        raise ValueError(
            f'expected timesteps in [0, {length - 1}], got {wrong}'
        )
    batches, labels = load_images(cfg, model, max_images, seed)
    if len(labels) <= num_labels:
        raise ValueError(
            f'expected more than {num_labels} labelled images, to fit on '
            f'{num_labels} and test on the others, got {len(labels)}'
        )
    splits = StratifiedShuffleSplit(
        num_splits, train_size=num_labels, random_state=seed
    )
    splits = list(splits.split(labels, labels))
    return {
        t: accuracy(extract(model, batches, t), labels, splits)
        for t in track(timesteps, description='probing timesteps')
    }


def load_images(
    cfg: Config, model, max_images: int, seed: int
) -> Tuple[List[torch.Tensor], np.ndarray]:
    """Return batches of images in [0, 1], and their labels."""
    sampler = dict(type='DefaultSampler', shuffle=True, seed=seed)
    loader = dict(cfg.train_dataloader, sampler=sampler, drop_last=False)
    if 'probe_dataset' in cfg:
        loader.update(dataset=cfg.probe_dataset)
    batches, labels = [], []
    for batch in Runner.build_dataloader(loader):
        batch = model.data_preprocessor(batch, False)
        keep = ['gt_label' in sample for sample in batch['data_samples']]
        if any(keep):
            batches.append(model.images(batch['inputs'][keep]))
        labels += [
            int(sample.gt_label)
            for sample, kept in zip(batch['data_samples'], keep)
            if kept
        ]
        if len(labels) >= max_images:
            break
    return batches, np.array(labels)


def extract(model, batches: List[torch.Tensor], timestep: int) -> np.ndarray:
    """Return N x C pooled features of the teacher's last layer."""
    feats = []
    for images in batches:
        timesteps = torch.full((len(images),), timestep, device=images.device)
        feats.append(pool(list(model.teacher(images, timesteps).values())[-1]))
    return torch.cat(feats).cpu().numpy()


def accuracy(feats: np.ndarray, labels: np.ndarray, splits: list) -> float:
    """Return the mean test accuracy of probes over ``splits``."""
    scores = []
    for train, test in splits:
        classifier = make_pipeline(
            StandardScaler(), LogisticRegression(max_iter=1000)
        )
        classifier.fit(feats[train], labels[train])
        scores.append(classifier.score(feats[test], labels[test]))
    return float(np.mean(scores))


def main(argv: Optional[List[str]] = None) -> None:
    parser: argparse.ArgumentParser = make_parser(__doc__)
    parser.add_argument(
        '--timesteps', type=int, nargs='+', default=[*range(0, 1000, 50), 999]
    )
    parser.add_argument('--num-labels', type=int, default=50)
    parser.add_argument('--num-splits', type=int, default=10)
    parser.add_argument(
        '--max-images',
        type=int,
        default=MAX_IMAGES,
        help='stop reading labelled images here (default: %(default)s)',
    )
    parser.add_argument('--out', type=Path, help='JSON file to write')
    args = parser.parse_args(argv)
    scores = probe(
        load_config(args),
        args.timesteps,
        args.num_labels,
        args.num_splits,
        args.max_images,
    )
    for timestep, score in scores.items():
        print(f't = {timestep:4d}   accuracy {score:.3f}')
    if args.out:
        args.out.write_text(json.dumps(scores))


if __name__ == '__main__':
    main()
