"""Pretrain, finetune and score students."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import time
from abc import ABC, abstractmethod
from contextlib import contextmanager
from pathlib import Path
from typing import (
    Dict,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
)

import torch
from mmengine.config import Config
from PIL import Image

from projects.study import runs
from projects.study.methods import (
    CLAIMS,
    LEARNED,
    METHODS,
    PROBE,
    Claim,
    Method,
)
from projects.study.scores import (
    ALL,
    Cost,
    NumLabels,
    Score,
    read_costs,
    write_costs,
)
from repfusion_mm.analysis.probe import find_best, write_table
from repfusion_mm.engine.hooks.env_info_hook import find_versions
from repfusion_mm.visualization.policy_log import moments, read_records

#: Packages whose versions change scores.
PACKAGES = (
    'torch', 'mmengine', 'mmcv', 'mmpretrain', 'mmsegmentation', 'mmpose',
    'diffusers', 'repfusion_mm',
)  # fmt: skip
#: Of finetuning configs: from a student, and from scratch.
INITS = ('repfusion', 'scratch')


class Study(ABC):
    """What is compared on one dataset.

    Args:
        out: Folder of labels, runs and scores.
        amp: Whether to train with mixed precision.
    """

    #: Of the default output folder.
    name: str
    #: Folder of the project.
    folder: Path
    #: Name of the dataset in figures.
    title: str
    #: List of all training images with their labels.
    all_labels: Path
    distill_config: Path
    #: Path of the config, with ``{}`` for ``repfusion`` or ``scratch``.
    finetune_config: str
    #: Key of the score in mmengine's ``MessageHub``.
    metric: str
    #: Factor from the metric to a fraction.
    metric_scale = 1.0
    #: Name of the score in tables and figures.
    score_name: str
    #: Whether a smaller score is better.
    is_error = False
    #: Iterations of the finetuning by number of labels.
    num_iters: Dict[NumLabels, int]
    #: Changes to the config of the finetuning.
    finetune_options: Sequence[str] = ()
    methods: Dict[str, Method] = METHODS
    #: Methods that are run only on request.
    optional: Sequence[str] = ()
    #: Titles of methods that have scores and are no longer in the code.
    removed: Mapping[str, str] = {}
    claims: Sequence[Claim] = CLAIMS
    probe_grid: Sequence[int] = (*range(0, 1000, 50), 999)

    def __init__(self, out: Path, amp: bool = False) -> None:
        self.out = Path(out).resolve()
        self.amp = amp
        name = 'cpu'
        if torch.cuda.is_available():
            name = torch.cuda.get_device_name()
        #: What the runs use, as in the costs.
        self.device = f'{name}, --amp' if amp else name

    @property
    def lists(self) -> Tuple[Path, Path]:
        """The lists of all images for training and for testing."""
        name = f'test{self.all_labels.suffix}'
        return self.all_labels, self.all_labels.with_name(name)

    def prepare(self) -> None:
        """Check that the dataset is there.

        Raises:
            FileNotFoundError: A list of its images is missing.
        """
        for path in self.lists:
            if not path.exists():
                raise FileNotFoundError(
                    f'expected {path}, got no such file; see Data in '
                    f'projects/{self.folder.name}/README.md'
                )

    def fingerprint(self) -> Dict[str, str]:
        """Return what the scores of a folder have in common.

        These are the device, versions, and hashes of the lists of images, of
        the configs and the changes to them, and of each teacher that is there.
        """
        paths = [
            self.distill_config,
            *(Path(self.finetune_config.format(k)) for k in INITS),
            *(m.config for m in self.methods.values() if m.config),
        ]
        configs = [Config.fromfile(path) for path in paths]
        texts = [config.pretty_text for config in configs]
        methods = {
            name: (method.options, method.timestep)
            for name, method in self.methods.items()
        }
        settings = [
            self.num_iters, self.finetune_options, methods, self.probe_grid
        ]  # fmt: skip
        text = repr((texts, settings))
        versions = find_versions()
        fingerprint = dict(
            {name: versions[name] for name in PACKAGES if name in versions},
            device=self.device,
            cpu=torch.backends.cpu.get_cpu_capability(),
            configs=hashlib.sha256(text.encode()).hexdigest(),
        )
        for path in self.lists:
            if path.exists():
                digest = hashlib.sha256(path.read_bytes())
                fingerprint[f'list {path}'] = digest.hexdigest()
        teachers = [config.model.get('teacher') for config in configs]
        for folder in sorted({t.pretrained for t in teachers if t}):
            # Those of a pipeline are in its sub-folders.
            weights = sorted(Path(folder).rglob('*.safetensors'))
            if weights:
                digest = hashlib.sha256()
                for path in weights:
                    digest.update(path.read_bytes())
                fingerprint[f'teacher {folder}'] = digest.hexdigest()
        return fingerprint

    @abstractmethod
    def write_labels(self, path: Path, num_labels: int, seed: int) -> None:
        """Draw images, and write their list."""

    def labels(self, num_labels: NumLabels, seed: int) -> Path:
        """Return the list of the labeled images."""
        if num_labels == ALL:
            return self.all_labels.resolve()
        name = f'{num_labels}_{seed}{self.all_labels.suffix}'
        path = self.out / 'labels' / name
        with self.lock(path):
            if not path.exists():
                unfinished = path.with_suffix('.tmp')
                self.write_labels(unfinished, int(num_labels), seed)
                unfinished.replace(path)
        return path

    def score(self, method: str, num_labels: NumLabels, seed: int) -> Score:
        """Pretrain and finetune a student, unless it is pretrained.

        Args:
            method: A key of the methods.
            num_labels: Number of labeled images.
            seed: Seed of labels, student, policy and finetuning.
        """
        student, timestep = self.pretrain(method, num_labels, seed)
        work_dir = self.out / 'finetune' / f'{method}_{num_labels}_{seed}'
        num_iters = self.num_iters[num_labels]
        options = [
            *self.finetune_options,
            'default_hooks.checkpoint=None',
            f'train_cfg.max_iters={num_iters}',
            f'train_cfg.val_interval={num_iters}',
            f'randomness.seed={seed}',
            f'{runs.LABELED}.ann_file={self.labels(num_labels, seed)}',
        ]
        kind = 'scratch'
        if student is not None:
            kind = 'repfusion'
            options.append(f'model.backbone.init_cfg.checkpoint={student}')
            prefix = self.methods[method].prefix
            if prefix:
                options.append(f'model.backbone.init_cfg.prefix={prefix}')
        config = Path(self.finetune_config.format(kind))
        with self.measure('finetune', work_dir.name) as cost:
            runner = runs.train(config, work_dir, options, self.amp)
            cost['iterations'] = num_iters
        metric = runner.message_hub.get_scalar(self.metric).current()
        shutil.rmtree(work_dir)
        score = round(float(metric) * self.metric_scale, 4)
        return Score(method, num_labels, seed, score, timestep)

    def pretrain(
        self, name: str, num_labels: NumLabels, seed: int
    ) -> Tuple[Optional[Path], Optional[float]]:
        """Return the student's file and the timestep of its teacher."""
        method = self.methods[name]
        if method.options is None:
            return None, None
        options = [*method.options, f'randomness.seed={seed}']
        key, labels, timestep = f'{name}_{seed}', ALL, None
        if method.reads_labels:
            labels, key = num_labels, f'{key}_{num_labels}'
        if method.timestep not in (None, LEARNED):
            timestep = self.timestep(method, num_labels, seed)
            options.append(f'model.policy.timestep={timestep}')
            key = f'{key}_t{timestep}'
        path = self.labels(labels, seed)
        options.append(f'{runs.LABELED}.ann_file={path}')
        work_dir = self.out / 'pretrain' / key
        with self.lock(work_dir):
            if not work_dir.exists():
                self._pretrain(method, work_dir, options)
        if method.timestep == LEARNED:
            timestep, _ = moments(read_records(str(work_dir))[-1])
        return work_dir / 'student.pth', timestep

    def _pretrain(
        self, method: Method, work_dir: Path, options: List[str]
    ) -> None:
        # Renamed when complete, in case the study is killed.
        unfinished = work_dir.with_name(f'{work_dir.name}.part')
        shutil.rmtree(unfinished, ignore_errors=True)
        config = method.config or self.distill_config
        with self.measure('pretrain', work_dir.name) as cost:
            runner = runs.train(config, unfinished, options, self.amp)
            cost['iterations'] = runner.max_iters
        last = (unfinished / 'last_checkpoint').read_text(encoding='utf-8')
        if method.prefix:
            Path(last).rename(unfinished / 'student.pth')
        else:
            Path(last).unlink()
        unfinished.replace(work_dir)

    def timestep(
        self, method: Method, num_labels: NumLabels, seed: int
    ) -> int:
        """Return the timestep of a method that does not learn it."""
        if method.timestep == PROBE:
            return self.probe(num_labels, seed)
        if isinstance(method.timestep, Mapping):
            return method.timestep[num_labels]
        return int(method.timestep)

    def probe(self, num_labels: NumLabels, seed: int) -> int:
        """Return the timestep that the probe of the labels selects."""
        if num_labels == ALL:
            seed = 0  # the same labels for each seed
        folder = self.out / 'probe' / f'{num_labels}_{seed}'
        path = folder / 'timestep.txt'
        with self.lock(folder):
            if not path.exists():
                labels = self.labels(num_labels, seed)
                with self.measure('probe', folder.name):
                    prober = runs.make_prober(
                        self.distill_config,
                        [f'probe_dataset.ann_file={labels}'],
                    )
                    modes = prober.select_modes(None)
                    measured = prober.probe([*self.probe_grid], modes, folder)
                shutil.rmtree(folder / 'features')
                write_table(measured, folder / 'probe.csv')
                best = find_best(measured)[2]
                path.write_text(f'{best}\n', encoding='utf-8')
        return int(path.read_text(encoding='utf-8'))

    @contextmanager
    def lock(self, folder: Path) -> Iterator[None]:
        """Let one process write a folder, while others wait for it."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        path = folder.with_name(f'.{folder.name}.lock')
        with path.open('w', encoding='utf-8') as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def measure(self, step: str, name: str) -> Iterator[dict]:
        """Add the time of a step to costs.csv.

        It yields a dictionary for the number of iterations.
        """
        cost, begin = dict(iterations=0), time.perf_counter()
        yield cost
        seconds = round(time.perf_counter() - begin, 1)
        path = self.out / 'costs.csv'
        row = Cost(step, name, cost['iterations'], seconds, self.device)
        with self.lock(path):
            write_costs(path, [*read_costs(path), row])


def check_size(path: Path, width: int, height: int, command: str) -> None:
    """Refuse a dataset whose first image has another size.

    Args:
        path: The image.
        width: Its width, in pixels.
        height: Its height.
        command: What writes such images.

    Raises:
        ValueError: It has another size.
    """
    with Image.open(path) as image:
        size = image.size
    if size != (width, height):
        raise ValueError(
            f'expected images of {width} x {height} pixels, got {path} of '
            f'{size[0]} x {size[1]}; run {command}'
        )
