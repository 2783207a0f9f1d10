"""Write the config of a distillation, probe, distill, and judge."""

from __future__ import annotations

import argparse
import copy
import shlex
from pathlib import Path
from typing import List, NamedTuple, Optional

from mmengine.config import Config

from repfusion_mm.analysis.probe.prober import MAX_IMAGES, Prober
from repfusion_mm.analysis.probe.student import (
    WORSE,
    describe_student,
    probe_student,
)
from repfusion_mm.analysis.probe.study import Found, study_teacher
from repfusion_mm.cli import build_runner
from repfusion_mm.cli.config import read_config
from repfusion_mm.cli.runner import use_amp
from repfusion_mm.models.distillers.builders import build_policy
from repfusion_mm.own_images.choices import (
    Teacher,
    choose_length,
    choose_student,
    describe_training,
    find_teacher,
    is_config,
)
from repfusion_mm.own_images.config import (
    check_same,
    fill_in,
    write_config,
)
from repfusion_mm.own_images.images import Images, list_images
from repfusion_mm.own_images.labels import Labels, read_labels
from repfusion_mm.own_images.usage import (
    describe_usage,
    read_imports,
    read_pixels,
    write_configs,
)
from repfusion_mm.registry import MODELS

CONFIG = 'distill.py'
#: Images of which a normalizer takes the statistics, if there are as many.
NUM_IMAGES = 1024
#: Of images that a probe keeps in memory by default, as float32.
MAX_BYTES = 4 * 2**30
NO_LABELS = (
    'Without labels, nothing tells whether this teacher is worth distilling, '
    'or which timestep: timesteps are drawn uniformly.'
)


class Job(NamedTuple):
    """What is distilled, and from which images.

    Attributes:
        images: The images.
        labels: Labels of some of them, if there are any.
        variables: Variables of ``configs/distill/repfusion_custom.py``.
        teacher: The teacher.
        pixels: ``mean``, ``std`` and ``bgr_to_rgb`` of the config that is
            given as ``--student``; None if it has none.
        imports: Modules that this config imports.
        options: The ``--cfg-options``.
        command: The command line, for the comment at the top of the config.
        max_images: The largest number of labeled images that are probed.
    """

    images: Images
    labels: Optional[Labels]
    variables: dict
    teacher: Teacher
    pixels: Optional[dict]
    imports: List[str]
    options: dict
    command: str
    max_images: int

    def config(self, timestep: Optional[int] = None) -> Config:
        """Return the config; with labels, the timestep is probed first."""
        variables = dict(self.variables)
        if timestep is not None:
            variables['timestep'] = timestep
        cfg = fill_in(variables, self.teacher.base)
        imports = cfg.custom_imports.imports
        imports += [name for name in self.imports if name not in imports]
        cfg.model.teacher.update(self.teacher.options)
        pixels = self.pixels or {}
        cfg.model.data_preprocessor.update(pixels)
        if not pixels.get('bgr_to_rgb', True):
            cfg.model.channel_order = 'bgr'
        # The statistics of a few images are fixed after the first epoch.
        num_images, batch_size = len(self.images.names), cfg.batch_size
        seen = num_images // batch_size * batch_size
        if seen < NUM_IMAGES:
            cfg.model.normalizer.num_images = seen
        cfg.merge_from_dict(self.options)
        return cfg

    def notes(self, cfg: Config) -> List[str]:
        """Say what is distilled, and how long."""
        labels = self.labels.text if self.labels else 'no labels'
        length, size = cfg.train_cfg.get('max_epochs'), self.teacher.size
        return [
            f'{len(self.images.names)} images, median of the shorter sides '
            f'{self.images.side} pixels; {labels}.',
            f'{length} epochs of {cfg.train_dataloader.batch_size} images '
            f'a batch, of {size} x {size} pixels, the size of the teacher.',
        ]

    def write(self, path: Path, timestep: Optional[int] = None) -> None:
        """Write the config."""
        cfg = self.config(timestep)
        command = f'Written by: distill_folder.py {self.command}'
        write_config(path, cfg, [command, *self.notes(cfg)])


def run(args: argparse.Namespace, argv: List[str]) -> int:
    """Write the config, probe, distill, and say what came of it.

    Returns:
        The exit status: 1 if nothing is distilled, or if the student is not
        better than an untrained one; 0 with ``--ignore-verdict``.
    """
    job = prepare(args, argv)
    path = args.work_dir / CONFIG
    is_new = not path.exists()
    if not is_new:
        check_same(path, job.config)
    student = args.work_dir / 'student.pth'
    if student.exists() and not args.resume and not args.dry_run:
        raise ValueError(
            f'expected a --work-dir without a student, got {student}; give '
            '--resume to continue its training, or, if that has ended, to see '
            'its verdict again, or give another --work-dir'
        )
    args.work_dir.mkdir(parents=True, exist_ok=True)
    if is_new:  # that of an earlier call has a timestep
        job.write(path)
    try:  # as in the training
        cfg = read_config(str(path), args.cfg_options)
        cfg.work_dir = str(args.work_dir)
        if args.amp:
            use_amp(copy.deepcopy(cfg))
        check_student(cfg.model.student)
    except BaseException:
        if is_new:  # a corrected call would be refused for its settings
            path.unlink()
        raise
    print('\n'.join(job.notes(cfg)))
    print(f'{path}: the config')
    if args.dry_run:
        return 0
    found = None
    if job.labels is None:
        print(f'\n{NO_LABELS}\n')
    else:
        found = judge_teacher(cfg, job.max_images)
        if found.recommendation.distill is False and not args.ignore_verdict:
            print(
                f'{describe_training(job.teacher)}Nothing is distilled; '
                '--ignore-verdict does it anyway.'
            )
            return 1
    timestep = found.best[2] if found else None
    chosen = job.config(timestep).model.policy.get('timestep')
    if chosen is not None:
        reason = ', of the highest R²' if chosen == timestep else ''
        print(f'distilled: t = {chosen}{reason}\n')
    job.write(path, timestep)
    options = [str(path), '--work-dir', str(args.work_dir)]
    options += ['--amp'] * args.amp + ['--resume'] * args.resume
    try:
        runner = build_runner(options)
    except BaseException:
        job.write(path, timestep)
        if is_new and found is None:  # as above
            path.unlink()
        raise
    try:
        runner.train()
    finally:  # over the config that mmengine dumps, which has no comments
        job.write(path, timestep)
    cfg = read_config(str(path))
    verdict = ''
    if found:
        verdict = judge_student(cfg, student, found, job.max_images)
    if is_config(args.student):
        usage = write_configs(args.student[0], cfg, student.resolve())
    else:
        usage = describe_usage(cfg, student.resolve(), job.labels)
    text = f'{verdict}\n\n{usage}\n'.lstrip()
    (args.work_dir / 'verdict.txt').write_text(text, encoding='utf-8')
    print(f'\n{text}')
    return int(WORSE in verdict and not args.ignore_verdict)


def judge_teacher(cfg: Config, max_images: int) -> Found:
    """Probe the teacher, and write and print what the probe shows."""
    prober = Prober(cfg, max_images)
    if cfg.model.policy.get('timestep') is not None:  # of --cfg-options
        build_policy(cfg.model.policy, prober.teacher.num_timesteps)
    print(f'probing the teacher on {prober.summary()}')
    timesteps, modes = prober.select_timesteps(None), prober.select_modes(None)
    folder = Path(cfg.work_dir)
    found = study_teacher(prober, timesteps, modes, folder)
    text = f'{prober.summary()}\n{found.text}\n'
    (folder / 'probe.txt').write_text(text, encoding='utf-8')
    print(f'\n{found.text}\n')
    return found


def judge_student(
    cfg: Config, student: Path, found: Found, max_images: int
) -> str:
    """Compare the student with its teacher and an untrained student.

    Args:
        cfg: The config of the distillation.
        student: The exported student.
        found: What the probe of the teacher shows.
        max_images: The largest number of labeled images to read.
    """
    prober = Prober(cfg, max_images)
    mode, layer, t = found.best
    t = cfg.model.policy.get('timestep', t)  # --cfg-options may change it
    probe = probe_student(prober, student, (mode, layer, t))
    return describe_student(probe, prober.task.metric)


def check_student(config: Config) -> None:
    """Refuse a student that cannot be built.

    Raises:
        ValueError: It cannot.
    """
    try:
        MODELS.build(config)
    except Exception as error:
        raise ValueError(
            f'expected a student that can be built, got {config.to_dict()}: '
            f'{type(error).__name__}: {error}; correct --student'
        ) from error


def prepare(args: argparse.Namespace, argv: List[str]) -> Job:
    """Check everything that can be known before something is computed."""
    if 'work_dir' in (args.cfg_options or {}):
        raise ValueError(
            'expected the work directory as --work-dir, got --cfg-options '
            f'work_dir={args.cfg_options["work_dir"]}; give --work-dir instead'
        )
    images = list_images(args.images)
    written = (args.work_dir / CONFIG).resolve()
    if Path(images.root).resolve() in written.parents:
        raise ValueError(
            f'expected a --work-dir outside of {images.root}, got '
            f'{args.work_dir}, whose pictures would be taken for images; give '
            'another one'
        )
    labels = read_labels(images, args.labels, args.masks, args.coco)
    teacher = find_teacher(args.teacher)
    batch_size, epochs = choose_length(len(images.names))
    if written.exists():  # by a dry run, perhaps on another device
        epochs = Config.fromfile(written).train_cfg.get('max_epochs', epochs)
    student = choose_student(args.student, teacher.size)
    pixels, imports = None, []
    if is_config(args.student):
        config = Config.fromfile(args.student[0])
        pixels, imports = read_pixels(config), read_imports(config)
    variables = dict(
        data_root=images.root,
        task=labels.task if labels else 'classes',
        labels=labels.source if labels else None,
        names=labels.names if labels else (),
        image_size=teacher.size,
        student=student,
        batch_size=batch_size,
        max_epochs=args.epochs or epochs,
    )
    # Of few images, many classes would have only one, which is no use.
    num_images = 4 * (labels.num_classes if labels else 0)
    limit = MAX_BYTES // (12 * teacher.size**2)
    max_images = args.max_images or max(MAX_IMAGES, min(num_images, limit))
    return Job(
        images, labels, variables, teacher, pixels, imports,
        args.cfg_options or {}, shlex.join(argv), max_images,
    )  # fmt: skip
