"""Probe the features of a config's teacher, one timestep at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, set_random_seed

from repfusion_mm.analysis.probe.fingerprint import fingerprint_images
from repfusion_mm.analysis.probe.scores import Score, read_scores, write_scores
from repfusion_mm.analysis.probe.splits import make_splits
from repfusion_mm.analysis.probe.tasks import Task, find_task
from repfusion_mm.engine.preflight.ignored_labels import find_ignore_index
from repfusion_mm.engine.preflight.pixels import check_pixels
from repfusion_mm.registry import MODELS

MAX_IMAGES = 5000
#: Larger features are kept in a file instead of in memory.
MAX_BYTES = 2**30


class Prober:
    """Fit linear probes to the features of a config's labeled images.

    The images are those of ``probe_dataset`` in the config, or else the
    labeled training images.

    Args:
        cfg: The config of a distillation.
        num_labels: Numbers of labeled images to fit to. Linear models are
            scored on the other images.
        num_splits: Number of random splits for each number of labels.
        max_images: The largest number of labeled images to read.
        seed: Seed of the image order, the splits and the noise.

    Raises:
        ValueError: The config has no teacher, or there are too few labeled
            images.
    """

    task: Task

    def __init__(
        self,
        cfg: Config,
        num_labels: Sequence[int],
        num_splits: int,
        max_images: int = MAX_IMAGES,
        seed: int = 0,
    ) -> None:
        if 'teacher' not in cfg.get('model', {}):
            raise ValueError(
                'expected the config of a distillation, with model.teacher, '
                f'got {cfg.filename}'
            )
        init_default_scope(cfg.get('default_scope', 'mmengine'))
        self.model = MODELS.build(cfg.model).to(get_device()).eval()
        self.teacher = self.model.teacher.live
        if self.teacher.label_classes is not None:
            raise ValueError(
                "expected model.teacher.class_signal 'none' or 'random' for "
                "a probe, got 'label', which a probe would read back from "
                'the features; add --cfg-options '
                'model.teacher.class_signal=none'
            )
        self.cfg, self.seed = cfg, seed
        self.batches, self.targets = self._load(max_images)
        num_images, most = len(self.targets), max(num_labels)
        if num_images <= most:
            lower = ', or lower --num-labels' if num_images > 2 else ''
            raise ValueError(
                f'expected more than {most} labeled images, to fit to {most} '
                f'and score on the others, got {num_images}; give labels to '
                'the images of the dataset, or set probe_dataset in the '
                f'config to a labeled one{lower}'
            )
        grids = [shape[1:] for shape in self.teacher.feature_shapes.values()]
        self.splits = {
            n: make_splits(self.task, self.targets, n, num_splits, seed, grids)
            for n in num_labels
        }

    def _load(self, max_images: int) -> Tuple[List[torch.Tensor], np.ndarray]:
        """Return batches of labeled images in [0, 1], and all labels."""
        loader = dict(
            self.cfg.train_dataloader,
            sampler=dict(type='DefaultSampler', shuffle=True, seed=self.seed),
            batch_sampler=None,
            drop_last=False,
        )
        own = 'probe_dataset' if self.cfg.get('probe_dataset') else None
        if own:
            loader.update(dataset=self.cfg.probe_dataset)
        dataloader = Runner.build_dataloader(loader)
        check_pixels(dataloader.dataset, self.model, own)
        ignore_index = find_ignore_index(dataloader.dataset, self.model)
        batches: List[torch.Tensor] = []
        targets: List[np.ndarray] = []
        set_random_seed(self.seed)  # of augmentation
        for batch in dataloader:
            batch = self.model.data_preprocessor(batch, False)
            labeled = []
            for sample in batch['data_samples']:
                task = find_task(sample)
                target = task.target(sample, ignore_index) if task else None
                labeled.append(target is not None)
                if task is None or target is None:
                    continue
                if targets and task is not self.task:
                    raise ValueError(
                        'expected labels of one kind, got '
                        f'{self.task.field} and {task.field}; set '
                        'probe_dataset to one of the datasets'
                    )
                self.task = task
                targets.append(target.cpu().numpy())
            if any(labeled):
                batches.append(self.model.images(batch['inputs'][labeled]))
            if len(targets) >= max_images:
                break
        excess = len(targets) - max_images
        if excess > 0:
            batches[-1] = batches[-1][:-excess]
        return batches, stack_targets(targets[:max_images])

    def fingerprint(self) -> Dict[str, object]:
        """Return what identifies the images and their labels."""
        return fingerprint_images(self.batches, self.targets)

    def select_timesteps(self, timesteps: Optional[List[int]]) -> List[int]:
        """Check timesteps, or return twenty and the last one by default."""
        length = self.teacher.num_timesteps
        if not timesteps:
            twenty = range(0, length, max(1, length // 20))
            return sorted({*twenty, length - 1})
        wrong = [t for t in timesteps if not 0 <= t < length]
        if wrong:
            raise ValueError(
                f'expected --timesteps in [0, {length - 1}], the schedule of '
                f'the teacher, got {wrong}'
            )
        return timesteps

    def num_bytes(self) -> int:
        """Return the size of the features of one timestep in bytes."""
        feats = self._forward(self.batches[0][:1], 0)
        width = sum(self.task.feature(f)[0].numel() for f in feats.values())
        return 4 * width * len(self.targets)

    def resume(
        self,
        timesteps: List[int],
        input_modes: Optional[List[str]],
        folder: Path,
    ) -> List[Score]:
        """Add the scores that a folder does not have yet; return all.

        Without ``input_modes``, images are given as the teacher's config says.

        ``probe.csv`` is written after each timestep, so that an interrupted
        call can be repeated with the same teacher and images.
        """
        from rich.progress import track

        own = getattr(self.teacher, 'input_mode', None)
        if own is None and input_modes:
            raise ValueError(
                f'expected no --input-modes with '
                f'{type(self.teacher).__name__}, which has no noise, got '
                f'{input_modes}; remove --input-modes'
            )
        input_modes = input_modes or [own or 'clean']
        self._check_settings(folder / 'probe.json')
        table = folder / 'probe.csv'
        scores = read_scores(table)
        done = {score[:5] for score in scores}
        for mode in input_modes:
            missing = {
                t
                for t in timesteps
                for layer in self.teacher.feature_shapes
                for n, splits in self.splits.items()
                for i in range(len(splits))
                if (mode, layer, t, n, i) not in done
            }
            for t in track(sorted(missing), description=f'probing, {mode}'):
                new = self.run(t, mode, folder)
                scores += [score for score in new if score[:5] not in done]
                write_scores(table, scores)
        return scores

    def _check_settings(self, path: Path) -> None:
        """Write what the scores depend on, or compare it if it is there."""
        teacher = self.cfg.model.teacher.to_dict()
        teacher.pop('input_mode', None)  # a column of the scores
        settings = dict(
            teacher=teacher,
            hashes=self.model.external_hashes,
            images=self.fingerprint(),
        )
        text = json.dumps(settings, indent=2, sort_keys=True) + '\n'
        if path.exists() and path.read_text(encoding='utf-8') != text:
            before = json.loads(path.read_text(encoding='utf-8'))
            differ = [
                f'{part}.{name}'
                for part, now in json.loads(text).items()
                for name in sorted({*now, *before.get(part, {})})
                if now.get(name) != before.get(part, {}).get(name)
            ]
            raise ValueError(
                f'expected the scores in {path.parent} to be of the same '
                'teacher, files and images, got others, which differ in '
                f'{differ}; remove probe.json and probe.csv there, or give '
                'another --out'
            )
        path.write_text(text, encoding='utf-8')

    def run(
        self, timestep: int, input_mode: str, folder: Optional[Path] = None
    ) -> Iterator[Score]:
        """Yield the scores of all layers at one timestep.

        The folder holds features that are too large for memory.
        """
        if hasattr(self.teacher, 'input_mode'):
            self.teacher.input_mode = input_mode
        torch.manual_seed(self.seed + timestep)
        feats: Dict[str, np.ndarray] = {}
        begin = 0
        for images in self.batches:
            for layer, maps in self._forward(images, timestep).items():
                feat = self.task.feature(maps).cpu().numpy()
                if layer not in feats:
                    shape = (len(self.targets), *feat.shape[1:])
                    path = folder and folder / f'.{layer}.features'
                    feats[layer] = allocate(shape, path)
                feats[layer][begin : begin + len(feat)] = feat
            begin += len(images)
        for layer, array in feats.items():
            yield from self.score(array, input_mode, layer, timestep)
            if isinstance(array, np.memmap):
                Path(str(array.filename)).unlink()

    def score(
        self, feats: np.ndarray, input_mode: str, layer: str, timestep: int
    ) -> Iterator[Score]:
        """Fit to the features of all images; yield the score of each split."""
        for n, splits in self.splits.items():
            for i, split in enumerate(splits):
                train, test = ((feats[k], self.targets[k]) for k in split)
                score = round(self.task.score(train, test), 5)
                yield Score(input_mode, layer, timestep, n, i, score)

    @torch.no_grad()
    def _forward(
        self, images: torch.Tensor, timestep: int
    ) -> Dict[str, torch.Tensor]:
        timesteps = torch.full((len(images),), timestep, device=images.device)
        return self.teacher(images, timesteps)


def stack_targets(targets: List[np.ndarray]) -> np.ndarray:
    """Return N targets as one array; masks may differ in size."""
    if len({target.shape for target in targets}) == 1:
        return np.stack(targets)
    stacked = np.empty(len(targets), dtype=object)
    stacked[:] = targets
    return stacked


def allocate(shape: Tuple[int, ...], path: Optional[Path]) -> np.ndarray:
    """Return a float32 array, in a file if it is large and has a path."""
    if path is None or 4 * np.prod(shape) <= MAX_BYTES:
        return np.empty(shape, dtype=np.float32)
    return np.memmap(path, dtype=np.float32, mode='w+', shape=shape)
