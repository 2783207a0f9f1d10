"""Distillations from a miniature pipeline of each family of denoisers."""

import importlib

import pytest
import torch
from mmengine.config import Config

from repfusion_mm.engine.checkpoint.io import load_from_local
from repfusion_mm.models.teachers.inputs import prompts
from tests.helpers.equal import assert_equal
from tests.helpers.launcher import ROOT, run_main
from tests.helpers.ranks import run_on_ranks, train_on_rank
from tests.helpers.toy import save_cifar10

FOLDER = ROOT / 'tests/helpers/pipelines'
MODULES = sorted({path.stem for path in FOLDER.glob('*.py')} - {'parts'})
#: Families whose unconditional input is not encoded text.
WITHOUT_TEXT = ('dit', 'latent_unet', 'sdxl')


def write_config(folder, name, policy, **teacher):
    """Write a pipeline, images and a config of 4 iterations."""
    module = importlib.import_module(f'tests.helpers.pipelines.{name}')
    module.save(folder / 'pipeline')
    save_cifar10(folder / 'cifar10')
    cfg = Config.fromfile(ROOT / 'configs/distill/repfusion_r18_cifar.py')
    cfg.model.teacher.update(
        pretrained=str(folder / 'pipeline'),
        layers=[module.LAYER],
        input_size=module.SIDE,
        dtype='float32',
        prompt_file=str(folder / 'prompt.safetensors'),
        **teacher,
    )
    if name in WITHOUT_TEXT:
        del cfg.model.teacher['prompt_file']
    # The statistics of batch normalization are those of a process.
    cfg.model.student.update(
        stem_channels=8,
        base_channels=8,
        norm_cfg=dict(type='GN', num_groups=4),
    )
    cfg.model.policy = dict(type=f'repfusion_mm.{policy}')
    loader = cfg.train_dataloader
    loader.update(batch_size=20, num_workers=0, persistent_workers=False)
    loader.dataset.datasets[0].update(
        type='tests.helpers.toy.MiniCIFAR10',
        data_root=str(folder / 'cifar10'),
        pipeline=[dict(type='mmpretrain.PackInputs')],
    )
    cfg.train_cfg.max_epochs = 2
    cfg.default_hooks.checkpoint.interval = 1
    cfg.default_hooks.logger.interval = 1
    cfg.dump(folder / 'config.py')
    return folder / 'config.py'


def train(config, work_dir, *options):
    return run_main(
        'tools/train.py', config, '--work-dir', work_dir, *options
    ).output


@pytest.mark.parametrize('name', MODULES)
def test_a_resumed_run_equals_an_uninterrupted_one(name, tmp_path):
    config = write_config(tmp_path, name, 'LearnedTimestepPolicy')
    output = train(config, tmp_path / 'run')
    assert output.count('loss_distill: ') == 4
    train(
        config, tmp_path / 'resumed', '--resume', tmp_path / 'run/epoch_1.pth'
    )
    first, last, resumed = (
        load_from_local(tmp_path / path)
        for path in (
            'run/epoch_1.pth',
            'run/epoch_2.pth',
            'resumed/epoch_2.pth',
        )
    )
    for key in ('state_dict', 'optimizer'):
        assert_equal(last[key], resumed[key], key)
    weights = last['state_dict']
    assert all(value.isfinite().all() for value in weights.values())
    for part in ('student', 'connectors', 'decoder', 'policy'):
        names = [k for k in weights if k.startswith(part)]
        before = first['state_dict']
        assert any(not before[k].equal(weights[k]) for k in names), part


@pytest.mark.distributed
@pytest.mark.parametrize('name', MODULES)
def test_two_processes_train_the_student_of_one(name, tmp_path, monkeypatch):
    """Without random numbers of a process: 4 steps of 20 images."""
    config = write_config(
        tmp_path, name, 'FixedTimestepPolicy', input_mode='clean'
    )
    encoded, encode = [], prompts._encode
    monkeypatch.setattr(
        prompts, '_encode', lambda *args: encoded.append(0) or encode(*args)
    )

    def train_half(rank):
        train_on_rank(
            rank, config, '--work-dir', tmp_path / 'two',
            '--cfg-options', 'train_dataloader.batch_size=10',
        )  # fmt: skip
        return len(encoded)

    # The first process encodes the prompt for both.
    assert run_on_ranks(train_half) == [int(name not in WITHOUT_TEXT), 0]
    train(config, tmp_path / 'one')
    one, two = (
        load_from_local(tmp_path / work_dir / 'epoch_2.pth')['state_dict']
        for work_dir in ('one', 'two')
    )
    for part in ('student', 'connectors', 'decoder'):
        ours, theirs = (
            torch.cat(
                [v.flatten() for k, v in w.items() if k.startswith(part)]
            )
            for w in (one, two)
        )
        assert (ours - theirs).norm() / theirs.norm() < 1e-4, part
