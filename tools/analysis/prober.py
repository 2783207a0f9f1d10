"""Probe the features of a config's teacher, one timestep at a time."""

from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from probe_tasks import find_probe

from repfusion_mm.registry import MODELS

MAX_IMAGES = 5000
#: Features beyond this many bytes are kept in a file.
MAX_BYTES = 2**30


class Score(NamedTuple):
    """One probe."""

    input_mode: str
    layer: str
    timestep: int
    num_labels: int
    split: int
    score: float


class Prober:
    """The teacher and the labelled images of a config.

    Raises:
        ValueError: There are too few labelled images.
    """

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
        self.teacher = self.model.teacher
        self.num_labels, self.seed = tuple(num_labels), seed
        self.task = None
        self.batches, self.targets = self._load(cfg, max_images)
        if len(self.targets) <= max(self.num_labels):
            raise ValueError(
                f'expected more than {max(self.num_labels)} labelled images, '
                f'to fit on {max(self.num_labels)} and score on the others, '
                f'got {len(self.targets)}; give labels to the data set, set '
                'probe_dataset in the config, or lower --num-labels'
            )
        self.splits = {
            n: list(
                self.task.splits(
                    self.targets,
                    n_splits=num_splits,
                    train_size=n,
                    random_state=seed,
                )
            )
            for n in self.num_labels
        }

    def _load(self, cfg: Config, max_images: int) -> tuple:
        """Return batches of images in [0, 1], and the label of each image."""
        sampler = dict(type='DefaultSampler', shuffle=True, seed=self.seed)
        loader = dict(cfg.train_dataloader, sampler=sampler, drop_last=False)
        if cfg.get('probe_dataset') is not None:
            loader.update(dataset=cfg.probe_dataset)
        batches, targets = [], []
        for batch in Runner.build_dataloader(loader):
            batch = self.model.data_preprocessor(batch, False)
            samples = batch['data_samples']
            self.task = self.task or next(
                filter(None, map(find_probe, samples)), None
            )
            if self.task is None:
                continue
            keep = [self.task.field in sample for sample in samples]
            if any(keep):
                batches.append(self.model.images(batch['inputs'][keep]))
            targets += [
                self.task.target(sample)
                for sample, kept in zip(samples, keep)
                if kept
            ]
            if len(targets) >= max_images:
                break
        return batches, np.array(targets)

    def check_timesteps(self, timesteps: Sequence[int]) -> None:
        """Raise a ValueError for timesteps outside the schedule."""
        length = self.teacher.num_timesteps
        wrong = [t for t in timesteps if not 0 <= t < length]
        if wrong:
            raise ValueError(
                f'expected --timesteps in [0, {length - 1}], the schedule of '
                f'the teacher, got {wrong}'
            )

    def grid(self) -> List[int]:
        """Return twenty timesteps over the schedule, and its last."""
        length = self.teacher.num_timesteps
        return [*range(0, length, max(1, length // 20)), length - 1]

    def num_bytes(self) -> int:
        """Return the size of the features at one timestep."""
        with torch.no_grad():
            feats = self._forward(self.batches[0][:1], 0)
        width = sum(self.task.feature(f)[0].numel() for f in feats.values())
        return 4 * width * len(self.targets)

    def run(
        self, timestep: int, input_mode: str, folder: Optional[Path] = None
    ) -> Iterator[Score]:
        """Yield all scores at one timestep; one pass gives all layers.

        Args:
            timestep: In [0, T - 1].
            input_mode: ``'clean'`` or ``'noised'``.
            folder: Where features go that are too large for memory.
        """
        self.teacher.input_mode = input_mode
        torch.manual_seed(self.seed + timestep)
        feats: Dict[str, np.ndarray] = {}
        begin = 0
        for images in self.batches:
            for layer, feat in self._forward(images, timestep).items():
                feat = self.task.feature(feat).cpu().numpy()
                if layer not in feats:
                    shape = (len(self.targets), *feat.shape[1:])
                    path = folder and folder / f'.{layer}.features'
                    feats[layer] = allocate(shape, path)
                feats[layer][begin : begin + len(feat)] = feat
            begin += len(images)
        for layer, array in feats.items():
            for n in self.num_labels:
                for i, (train, test) in enumerate(self.splits[n]):
                    score = self.task.score(array, self.targets, train, test)
                    yield Score(
                        input_mode, layer, timestep, n, i, round(score, 5)
                    )
            if isinstance(array, np.memmap):
                Path(array.filename).unlink()

    def _forward(self, images: torch.Tensor, t: int) -> Dict:
        timesteps = torch.full((len(images),), t, device=images.device)
        return self.teacher(images, timesteps)


def allocate(shape: Tuple[int, ...], path: Optional[Path]) -> np.ndarray:
    """Return an array, in a file where it is large."""
    if path is None or 4 * np.prod(shape) <= MAX_BYTES:
        return np.empty(shape, dtype=np.float32)
    return np.memmap(path, dtype=np.float32, mode='w+', shape=shape)
