"""Train on the digits: what the demo and the evidence share."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Sequence, Union

from mmengine.runner import Runner

from repfusion_mm.analysis.probe import Prober
from repfusion_mm.cli import build_runner, load_config, make_parser

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
DISTILL = CONFIGS / 'distill/repfusion_resnet18_digits.py'
#: The same with a teacher that works on latents.
DISTILL_LATENT = CONFIGS / 'distill/repfusion_resnet18_latent-digits.py'
#: The shipped denoiser of digits.
TEACHER = Path(__file__).resolve().parent / 'ddpm_digits'
#: Where the configs expect the images, from the current folder.
DATA = Path('data/digits')
#: The dataset of the labeled images in the configs.
LABELED = 'train_dataloader.dataset.datasets.0'
#: Timesteps at which the teacher is probed.
PROBE_GRID = (*range(0, 1000, 50), 999)


def train(config: Path, work_dir: Path, options: Sequence[str] = ()) -> Runner:
    """Train as ``tools/train.py`` does and return the finished runner.

    Args:
        config: A config of this repository.
        work_dir: Work directory of the run.
        options: Values of ``--cfg-options``, such as ``'randomness.seed=1'``.
    """
    argv = [str(config), '--work-dir', str(work_dir), '--cfg-options']
    # By default mmengine names a run by its config and the second in which it
    # starts: two runs of the same name share one visualizer and its logs.
    name = '_'.join(Path(work_dir).parts)
    runner = build_runner([*argv, f'experiment_name={name}', *options])
    runner.train()
    return runner


def distill(
    work_dir: Path,
    labels: Union[Path, str],
    options: Sequence[str] = (),
    teacher: Optional[Path] = TEACHER,
    config: Path = DISTILL,
) -> Runner:
    """Distill a student into ``work_dir / 'student.pth'``.

    Args:
        work_dir: Work directory of the run.
        labels: List of the labeled images.
        options: More values of ``--cfg-options``.
        teacher: Folder of the denoiser; None for that of the config.
        config: The config of the distillation.
    """
    options = [*options, f'{LABELED}.ann_file={labels}']
    if teacher is not None:
        options.append(f'model.teacher.pretrained={teacher}')
    return train(config, work_dir, options)


def finetune(
    work_dir: Path,
    labels: Union[Path, str],
    student: Optional[Path],
    seed: int,
    padding: int,
    options: Sequence[str] = (),
) -> float:
    """Finetune on the labeled images and return the test accuracy in [0, 1].

    Args:
        work_dir: Work directory of the run.
        labels: List of the labeled images.
        student: A distilled student, or None to start from scratch.
        seed: Seed of the run.
        padding: Largest random shift of a training image, in pixels.
        options: More values of ``--cfg-options``.
    """
    options = [
        *options,
        f'{LABELED}.ann_file={labels}',
        f'{LABELED}.pipeline.1.padding={padding}',
        f'randomness.seed={seed}',
    ]
    kind = 'scratch'
    if student is not None:
        kind = 'repfusion'
        options.append(f'model.backbone.init_cfg.checkpoint={student}')
    config = CONFIGS / f'finetune/mmpretrain/resnet18-{kind}_digits.py'
    accuracy = train(config, work_dir, options).message_hub.get_scalar(
        'val/accuracy/top1'
    )
    return round(float(accuracy.current()) / 100, 4)


def make_prober(
    labels: Union[Path, str], teacher: Path = TEACHER, max_images: int = 500
) -> Prober:
    """Return a prober of the teacher.

    Args:
        labels: List of the labeled images.
        teacher: Folder of the denoiser.
        max_images: The largest number of images to use.
    """
    options = [
        f'model.teacher.pretrained={teacher}',
        f'probe_dataset.ann_file={labels}',
    ]
    args = make_parser('').parse_args(
        [str(DISTILL), '--cfg-options', *options]
    )
    return Prober(load_config(args), max_images)
