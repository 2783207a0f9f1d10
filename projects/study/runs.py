"""Train and probe as the tools do, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

from mmengine.runner import Runner

from repfusion_mm.analysis.probe import Prober
from repfusion_mm.cli import build_runner, make_parser
from repfusion_mm.cli.config import load_config

ROOT = Path(__file__).resolve().parents[2]
#: The dataset of the labeled images in the configs of the studies.
LABELED = 'train_dataloader.dataset.datasets.0'


def train(
    config: Path,
    work_dir: Path,
    options: Sequence[str] = (),
    amp: bool = False,
) -> Runner:
    """Train as ``tools/train.py`` does and return the finished runner.

    Args:
        config: A config of this repository.
        work_dir: Work directory of the run.
        options: Values of ``--cfg-options``, such as ``'randomness.seed=1'``.
        amp: Whether to train with mixed precision.
    """
    # By default mmengine names a run by its config and the second in which it
    # starts, and mmseg and mmpose name all visualizers alike: runs of the same
    # name share one visualizer and its logs.
    name = '_'.join(Path(work_dir).parts)
    options = [f'experiment_name={name}', f'visualizer.name={name}', *options]
    flags = ['--amp'] * amp
    runner = build_runner(
        [str(config), '--work-dir', str(work_dir), *flags, '--cfg-options']
        + options
    )
    runner.train()
    return runner


def make_prober(
    config: Path, options: Sequence[str], max_images: int = 500
) -> Prober:
    """Return a prober of the teacher of a config.

    Args:
        config: The config of a distillation, with a ``probe_dataset``.
        options: Values of ``--cfg-options``.
        max_images: The largest number of labeled images to use.
    """
    args = make_parser('').parse_args([str(config), '--cfg-options', *options])
    return Prober(load_config(args), max_images)
