"""Compute the features of a config's labeled images, and probe them."""

from __future__ import annotations

import importlib
import json
import os.path as osp
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Optional, Set, Tuple, Type

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, set_random_seed

from repfusion_mm.analysis.probe.fingerprint import fingerprint_images
from repfusion_mm.analysis.probe.measurement import Key, Measurement
from repfusion_mm.analysis.probe.tasks.base import Grid, Task
from repfusion_mm.analysis.probe.tasks.classification import ClassTask
from repfusion_mm.analysis.probe.tasks.keypoints import KeypointTask
from repfusion_mm.analysis.probe.tasks.masks import MaskTask
from repfusion_mm.engine.preflight.batches import check_sizes
from repfusion_mm.engine.preflight.ignored_labels import find_ignore_index
from repfusion_mm.engine.preflight.pixels import check_pixels
from repfusion_mm.registry import MODELS

MAX_IMAGES = 500
#: Share of a draw whose classes must have several images in it.
MIN_KEPT = 0.9
#: In a folder of features: what they depend on.
SETTINGS = 'settings.json'
TASKS: Tuple[Type[Task], ...] = (ClassTask, MaskTask, KeypointTask)


class Prober:
    """Probe the teacher of a config on all labeled images.

    The images are those of ``probe_dataset`` in the config, or else the
    labeled training images.

    Args:
        cfg: The config of a distillation.
        max_images: The largest number of labeled images to read.
        seed: Seed of the image order and of the noise.

    Raises:
        ValueError: The config has no teacher, or the labels do not suffice
            for a probe, or an image is repeated.
    """

    def __init__(
        self, cfg: Config, max_images: int = MAX_IMAGES, seed: int = 0
    ) -> None:
        if 'teacher' not in cfg.get('model', {}):
            raise ValueError(
                'expected the config of a distillation, with model.teacher, '
                f'got {cfg.filename}'
            )
        # Of the scores, which are computed after all features.
        importlib.import_module('scipy.stats')
        init_default_scope(cfg.get('default_scope', 'mmengine'))
        # The timestep of the config may be what the probe is asked for.
        policy = dict(type='repfusion_mm.FixedTimestepPolicy')
        model = MODELS.build(dict(cfg.model, policy=policy))
        self.model = model.to(get_device()).eval()
        self.teacher = self.model.teacher.live
        #: Of the config; None for teachers without noise.
        self.input_mode = getattr(self.teacher, 'input_mode', None)
        if self.teacher.label_classes is not None:
            raise ValueError(
                "expected model.teacher.class_signal 'none' or 'random' for "
                "a probe, got 'label', which a probe would read back from "
                'the features; add --cfg-options '
                'model.teacher.class_signal=none'
            )
        self.cfg, self.seed = cfg, seed
        self.batches: List[torch.Tensor] = []
        #: Of the batches, for latent teachers.
        self._latents: Dict[int, Any] = {}
        self.targets: List[np.ndarray] = []
        kind = self._load(max_images) or ClassTask
        self.task: Task = kind(self.targets)
        self.grids: Dict[str, Grid] = {
            layer: (shape[1], shape[2])
            for layer, shape in self.teacher.feature_shapes.items()
        }
        for grid in self.grids.values():
            self.task.check_grid(grid)

    def _load(self, max_images: int) -> Optional[Type[Task]]:
        """Read batches of labeled images in [0, 1], and all labels."""
        loader = dict(
            self.cfg.train_dataloader,
            sampler=dict(type='DefaultSampler', shuffle=True, seed=self.seed),
            batch_sampler=None,
            drop_last=False,
        )
        loader.pop('num_batch_per_epoch', None)
        own = 'probe_dataset' if self.cfg.get('probe_dataset') else None
        if own:
            loader.update(dataset=self.cfg.probe_dataset)
        dataloader = Runner.build_dataloader(loader)
        check_pixels(dataloader.dataset, self.model, own)
        ignore_index = find_ignore_index(dataloader.dataset, self.model)
        found: Optional[Type[Task]] = None
        seen: Set[tuple] = set()
        set_random_seed(self.seed)  # of augmentation
        for batch in dataloader:
            check_sizes(batch)
            batch = self.model.data_preprocessor(batch, False)
            labeled = []
            for sample in batch['data_samples']:
                kind = find_task(sample)
                target = kind.read(sample, ignore_index) if kind else None
                labeled.append(target is not None)
                if kind is None or target is None:
                    continue
                if found and found is not kind:
                    raise ValueError(
                        'expected labels of one kind, got '
                        f'{found.field} and {kind.field}; set '
                        'probe_dataset to one of the datasets'
                    )
                found = kind
                check_repeated(sample, seen)
                self.targets.append(target.cpu().numpy())
            if any(labeled):
                inputs = batch['inputs'][labeled]
                self.batches.append(self.model.images(inputs))
            # One more than are used, to know whether there are more.
            if len(self.targets) > max_images:
                break
        self.paths = {path for path, _ in seen if path}
        excess = len(self.targets) - max_images
        self.is_truncated, self.num_dropped = excess > 0, 0
        if excess > 0:
            *self.batches, last = self.batches
            if len(last) > excess:
                self.batches.append(last[:-excess])
            del self.targets[max_images:]
            if found is ClassTask:
                self._drop_single_images()
        return found

    def _drop_single_images(self) -> None:
        """Drop the only image of a class: the others were not drawn.

        If these are many, the draw is too small for so many classes, which
        :class:`ClassTask` refuses.
        """
        counts = Counter(map(int, self.targets))
        keep = torch.tensor([counts[int(i)] > 1 for i in self.targets])
        if keep.float().mean() < MIN_KEPT:
            return
        flags = keep.split([len(batch) for batch in self.batches])
        self.batches = [b[f] for b, f in zip(self.batches, flags) if f.any()]
        self.targets = [i for i, kept in zip(self.targets, keep) if kept]
        self.num_dropped = int((~keep).sum())

    def summary(self) -> str:
        """Return which labels are used, for a person."""
        notes = []
        if self.is_truncated:
            notes.append('there are more, see --max-images')
        if self.num_dropped:
            notes.append(
                f'without {self.num_dropped}, the only ones of their class'
            )
        num_equal = len(self.targets) - len(self._digests())
        if num_equal:
            notes.append(
                f'{num_equal} of them equal others in all pixels, so that '
                'scores are too high: remove the repeats'
            )
        num_paths = len(self.paths)
        if 1 < num_paths < len(self.targets):
            notes.append(
                f'instances of {num_paths} images: those of the same image '
                'are not independent, so that scores are too high'
            )
        more = f' ({"; ".join(notes)})' if notes else ''
        return f'{len(self.targets)} labeled images{more}'

    def _digests(self) -> Set[str]:
        """Return the hashes of the pixels of all images."""
        return {
            str(fingerprint_images([image[None]], [])['pixels'])
            for images in self.batches
            for image in images
        }

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
        return sorted({*timesteps})

    def select_modes(self, input_modes: Optional[List[str]]) -> List[str]:
        """Check input modes; return that of the config by default."""
        if self.input_mode is None and input_modes:
            raise ValueError(
                f'expected no --input-modes with '
                f'{type(self.teacher).__name__}, which has no noise, got '
                f'{input_modes}; remove --input-modes'
            )
        return input_modes or [self.input_mode or 'clean']

    def probe(
        self, timesteps: List[int], input_modes: List[str], folder: Path
    ) -> Dict[Key, Measurement]:
        """Measure all layers at all timesteps.

        Features are written to the folder, one file for each timestep, so
        that an interrupted call can be repeated with the same teacher and
        images.
        """
        from rich.progress import track

        folder = folder / 'features'
        self.check_folder(folder)
        self._write(folder / SETTINGS)
        paths = {
            (mode, t): folder / f'{mode}_{t}.npz'
            for mode in input_modes
            for t in timesteps
        }
        missing = [key for key, path in paths.items() if not path.exists()]
        for mode, t in track(missing, description='computing features'):
            save(self.features(t, mode), paths[mode, t])
        groups = [
            (mode, layer) for mode in input_modes for layer in self.grids
        ]
        measurements: Dict[Key, Measurement] = {}
        for mode, layer in track(groups, description='fitting'):
            feats = [np.load(paths[mode, t])[layer] for t in timesteps]
            measurements.update(
                self.measure(mode, layer, timesteps, np.stack(feats, 1))
            )
        return measurements

    def measure(
        self,
        input_mode: str,
        layer: str,
        timesteps: List[int],
        features: np.ndarray,
    ) -> Dict[Key, Measurement]:
        """Measure N x T x R x D features of a layer."""
        measured = self.task.measure(features, self.grids[layer])
        return {
            (input_mode, layer, t): measurement
            for t, measurement in zip(timesteps, measured)
        }

    def _settings(self) -> Dict[str, dict]:
        """Return what features depend on."""
        teacher = self.cfg.model.teacher.to_dict()
        teacher.pop('input_mode', None)  # part of a file's name
        settings = dict(
            teacher=teacher,
            hashes=self.model.external_hashes,
            images=self.fingerprint(),
        )
        return json.loads(json.dumps(settings))  # as they are read

    def check_folder(self, folder: Path) -> None:
        """Refuse a folder with features of another teacher or other images.

        Raises:
            ValueError: It names what differs.
        """
        path = folder / SETTINGS
        if not path.exists() and not any(folder.glob('*.npz')):
            return
        settings, before = self._settings(), read_settings(path)
        differ = [
            f'{part}.{name}'
            for part, now in settings.items()
            for name in sorted({*now, *before.get(part, {})})
            if now.get(name) != before.get(part, {}).get(name)
        ]
        if differ:
            raise ValueError(
                f'expected the features in {folder} to be of the same '
                'teacher, files and images, got others, which differ in '
                f'{differ}; remove this folder, or give another --out '
                '(--work-dir of distill_folder.py)'
            )

    def _write(self, path: Path) -> None:
        """Write what the features depend on, atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix('.tmp')
        text = json.dumps(self._settings(), indent=2, sort_keys=True)
        unfinished.write_text(text + '\n', encoding='utf-8')
        unfinished.replace(path)

    @torch.no_grad()
    def features(
        self, timestep: int, input_mode: str
    ) -> Dict[str, np.ndarray]:
        """Return the N x R x D features of each layer at one timestep.

        Raises:
            ValueError: They are not finite.
        """
        if self.input_mode is not None:
            self.teacher.input_mode = input_mode
        torch.manual_seed(self.seed + timestep)
        feats: Dict[str, np.ndarray] = {}
        begin = 0
        for index, images in enumerate(self.batches):
            end = begin + len(images)
            maps = self._run_teacher(
                index,
                images.new_full((len(images),), timestep, dtype=torch.long),
            )
            for layer, feat in maps.items():
                rows = self.task.rows(feat.float(), begin).cpu().numpy()
                if layer not in feats:
                    shape = (len(self.targets), *rows.shape[1:])
                    feats[layer] = np.empty(shape, dtype=np.float32)
                feats[layer][begin:end] = rows
            begin = end
        for layer, array in feats.items():
            if not np.isfinite(array).all():
                raise ValueError(
                    f'expected finite features, got NaN or Inf in {layer} at '
                    f't = {timestep}; set model.teacher.dtype to bfloat16 or '
                    'float32'
                )
        return {
            layer: self.task.finish(array) for layer, array in feats.items()
        }

    def _run_teacher(
        self, index: int, timesteps: torch.Tensor
    ) -> Dict[str, torch.Tensor]:
        """Return the maps of a batch, which is encoded at the first timestep.

        The image encoder is most of the arithmetic of many latent teachers.
        """
        images = self.batches[index]
        if getattr(self.teacher, 'encoder', None) is None:
            return self.teacher(images, timesteps)
        if index not in self._latents:
            self._latents[index] = self.teacher.encode_latents(images)
        x_0 = self.teacher.draw(self._latents[index])
        return self.teacher.extract(x_0, timesteps)


def find_task(sample: Any) -> Optional[Type[Task]]:
    """Return the task for a data sample, or None if it has no label."""
    found = any(task.field in sample for task in TASKS)
    boxes = sample.gt_instances if 'gt_instances' in sample else ()
    if not found and 'labels' in boxes:  # of mmdet
        raise ValueError(
            'expected classes, masks or keypoints for a probe, got boxes '
            '(gt_instances); make masks of them by repfusion_mm.BoxesToMask '
            'in the pipeline of probe_dataset, as repfusion_custom.py does'
        )
    # A label of probabilities is refused by the first task.
    if 'gt_score' in sample:
        return TASKS[0]
    return next((task for task in TASKS if task.field in sample), None)


def check_repeated(sample: Any, seen: Set[tuple]) -> None:
    """Refuse a labeled image that was seen before, and add it to these.

    Instances of one image, which have an ``id``, are different crops.
    """
    path = sample.get('img_path')
    key = osp.normpath(path or ''), sample.get('id')
    if path and key in seen:
        raise ValueError(
            'expected each labeled image once in the dataset of a probe, '
            f'which is scored on images that it is not fitted to, got {path} '
            'twice; remove the repeats, or set probe_dataset to a dataset '
            'without them'
        )
    seen.add(key)


def read_settings(path: Path) -> Dict[str, dict]:
    """Read what features depend on; nothing if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}


def save(features: Dict[str, np.ndarray], path: Path) -> None:
    """Write the features of all layers atomically, in float32."""
    unfinished = path.with_suffix('.tmp')
    with unfinished.open('wb') as file:
        np.savez(
            file,
            **{
                name: array.astype(np.float32)
                for name, array in features.items()
            },
        )
    unfinished.replace(path)
