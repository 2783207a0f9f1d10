"""Train on the digits: what the demo and the studies share."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Sequence, Union

from mmengine.runner import Runner

from projects.study import runs
from projects.study.runs import LABELED
from projects.study.study import Study
from repfusion_mm.analysis.probe import Prober

CONFIGS = runs.ROOT / 'configs'
DISTILL = CONFIGS / 'distill/repfusion_resnet18_digits.py'
#: The same with a teacher that works on latents.
DISTILL_LATENT = CONFIGS / 'distill/repfusion_resnet18_latent-digits.py'
#: With ``repfusion`` or ``scratch`` in place of ``{}``.
FINETUNE = str(CONFIGS / 'finetune/mmpretrain/resnet18-{}_digits.py')
#: The shipped denoiser of digits.
TEACHER = Path(__file__).resolve().parent / 'ddpm_digits'
#: Where the configs expect the images, from the current folder.
DATA = Path('data/digits')
#: Timesteps at which the teacher is probed.
PROBE_GRID = Study.probe_grid


def distill(
    work_dir: Path,
    labels: Union[Path, str],
    options: Sequence[str] = (),
    teacher: Path = TEACHER,
) -> Runner:
    """Distill a student into ``work_dir / 'student.pth'``.

    Args:
        work_dir: Work directory of the run.
        labels: List of the labeled images.
        options: More values of ``--cfg-options``.
        teacher: Folder of the denoiser.
    """
    options = [
        *options,
        f'{LABELED}.ann_file={labels}',
        f'model.teacher.pretrained={teacher}',
    ]
    return runs.train(DISTILL, work_dir, options)


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
    config = Path(FINETUNE.format(kind))
    accuracy = runs.train(config, work_dir, options).message_hub.get_scalar(
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
    return runs.make_prober(DISTILL, options, max_images)
