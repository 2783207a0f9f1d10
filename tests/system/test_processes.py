"""Several processes compute what one process computes."""

import re

import pytest
import torch
from mmengine.config import Config

from repfusion_mm.engine.checkpoint.io import load_from_local
from tests.helpers.launcher import ROOT, free_port, launch, run_main
from tests.helpers.ranks import run_on_ranks, train_on_rank
from tests.helpers.toy import save_cifar10, save_teacher

pytestmark = pytest.mark.distributed


@pytest.fixture
def config(tmp_path):
    """CIFAR-10 in miniature, without random numbers of a process.

    The student has group normalization, because the statistics of batch
    normalization are those of a process (there is no SyncBN on a CPU).
    """
    cfg = Config.fromfile(ROOT / 'configs/distill/repfusion_r18_cifar.py')
    save_cifar10(tmp_path / 'cifar10')
    cfg.model.teacher.pretrained = save_teacher(
        tmp_path / 'ddpm', sample_size=32
    )
    cfg.model.teacher.dtype = 'float32'
    cfg.model.student.norm_cfg = dict(type='GN', num_groups=4)
    cfg.model.policy = dict(
        type='repfusion_mm.FixedTimestepPolicy', timestep=200
    )
    cfg.model.normalizer = 'standardize'
    loader = cfg.train_dataloader
    loader.update(num_workers=0, persistent_workers=False)
    loader.dataset.datasets[0].update(
        type='tests.helpers.toy.MiniCIFAR10',
        data_root=str(tmp_path / 'cifar10'),
        pipeline=[dict(type='mmpretrain.PackInputs')],
    )
    cfg.train_cfg.max_epochs = 3
    cfg.default_hooks.checkpoint.interval = 3
    cfg.default_hooks.logger.interval = 1
    cfg.dump(tmp_path / 'config.py')
    return tmp_path / 'config.py'


def train(config, processes, batch_size):
    """Return the work directory and the output of a run."""
    work_dir = config.parent / f'{processes}x{batch_size}'
    options = [
        '--work-dir', work_dir, '--cfg-options',
        f'train_dataloader.batch_size={batch_size}',
    ]  # fmt: skip
    if processes == 1:
        return work_dir, run_main('tools/train.py', config, *options).output
    return work_dir, launch(
        'tools/dist_train.sh', config, processes, *options,
        PORT=str(free_port()),
    )  # fmt: skip


def logged(output, name):
    values = re.findall(rf' {name}: (-?[\d.]+)', output)
    return torch.tensor([float(value) for value in values])


def test_two_processes_train_the_student_of_one(config):
    """The same seed and global batches: 15 steps of 8 images."""
    one, two = train(config, 1, 8), train(config, 2, 4)
    weights = [
        load_from_local(work_dir / 'epoch_3.pth')['state_dict']
        for work_dir, _ in (one, two)
    ]
    for part in ('student', 'connectors', 'decoder'):
        ours, theirs = (
            torch.cat(
                [v.flatten() for k, v in w.items() if k.startswith(part)]
            )
            for w in weights
        )
        assert (ours - theirs).norm() / theirs.norm() < 1e-4, part
    for name in ('loss_distill', 'loss_decoder', 'reward'):
        ours, theirs = (logged(output, name) for _, output in (one, two))
        assert len(ours) == 15
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)


def test_processes_with_one_seed_are_refused(config):
    cfg = Config.fromfile(config)
    cfg.model.policy = dict(type='repfusion_mm.LearnedTimestepPolicy')
    cfg.randomness.diff_rank_seed = False
    cfg.train_dataloader.batch_size = 4
    cfg.dump(config)

    def refused(rank):
        with pytest.raises(ValueError) as error:
            train_on_rank(rank, config, '--work-dir', config.parent / 'run')
        return str(error.value)

    for message in run_on_ranks(refused):
        assert 'expected a different random seed on each process' in message
        assert 'diff_rank_seed=True' in message
