"""The demo's parts, on the real digits."""

import json
import shutil
import sys
from pathlib import Path

import cv2
import demo
import demo_report
import mmpretrain
import numpy as np
import pytest

from projects.digits.prepare_data import write_digits
from repfusion_mm.visualization.policy_log import moments
from tests.helpers.launcher import ROOT, launch

DISTILL = 'configs/distill/repfusion_r18_digits.py'


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'digits'
    write_digits(folder)
    return folder


def lines(path):
    return Path(path).read_text().split('\n')[:-1]


def test_digits_are_written_whole_and_apart(digits):
    train, test = lines(digits / 'train.txt'), lines(digits / 'test.txt')
    assert (len(train), len(test)) == (1297, 500)
    for split, names in (('train', train), ('test', test)):
        files = {path.name for path in (digits / split).iterdir()}
        assert files == {line.split()[0] for line in names}
    image = cv2.imread(str(digits / 'train' / '00000.png'))
    assert image.shape == (16, 16, 3)
    assert image.max() > 200
    images = [
        (digits / split / line.split()[0]).read_bytes()
        for split, names in (('train', train), ('test', test))
        for line in names
    ]
    assert len({*images[:1297]} & {*images[1297:]}) == 0


def test_budgets_are_balanced_and_nested(digits):
    previous = set()
    for budget in (20, 50, 100):
        chosen = lines(digits / f'train_{budget}.txt')
        labels = [int(line.split()[1]) for line in chosen]
        assert np.bincount(labels).tolist() == [budget // 10] * 10
        assert previous < set(chosen) < set(lines(digits / 'train.txt'))
        previous = set(chosen)


def test_digits_are_distilled_and_finetuned(digits, tmp_path):
    """One epoch and two iterations of the demo's own configs."""
    output = launch(
        sys.executable, 'tools/train.py', DISTILL, '--work-dir', tmp_path,
        '--cfg-options', 'train_cfg.max_epochs=1',
        f'train_dataloader.dataset.datasets.0.data_root={digits}',
        f'train_dataloader.dataset.datasets.1.data_root={digits}',
    )  # fmt: skip
    assert 'released 1.5 M parameters' in output
    output = launch(
        sys.executable, 'tools/train.py',
        'configs/finetune/mmpretrain/resnet18-repfusion_digits.py',
        '--work-dir', tmp_path / 'finetuned', '--cfg-options',
        f'model.backbone.init_cfg.checkpoint={tmp_path / "student.pth"}',
        f'train_dataloader.dataset.data_root={digits}',
        f'val_dataloader.dataset.data_root={digits}',
        'train_cfg.max_iters=2', 'train_cfg.val_interval=2',
    )  # fmt: skip
    assert 'loaded 120/120 tensors of ResNet_CIFAR' in output
    assert 'accuracy/top1' in output


def test_finetuning_drops_into_mmpretrain(digits, tmp_path):
    """The config alone in an empty folder, with mmpretrain's own tool."""
    name = 'resnet18-scratch_digits.py'
    shutil.copy(ROOT / 'configs' / 'finetune' / 'mmpretrain' / name, tmp_path)
    tools = Path(mmpretrain.__file__).parent / '.mim' / 'tools'
    output = launch(
        sys.executable, tools / 'train.py', tmp_path / name,
        '--work-dir', tmp_path / 'out', '--cfg-options',
        f'train_dataloader.dataset.data_root={digits}',
        f'val_dataloader.dataset.data_root={digits}',
        'train_cfg.max_iters=2', 'train_cfg.val_interval=2',
    )  # fmt: skip
    assert 'accuracy/top1' in output


def test_teacher_config_trains_exports_and_draws(digits, tmp_path):
    small = tmp_path / 'small'
    (small / 'train').mkdir(parents=True)
    for i in range(8):
        shutil.copy(digits / 'train' / f'{i:05d}.png', small / 'train')
    launch(
        sys.executable, 'tools/train.py', 'configs/teacher/ddpm_digits.py',
        '--work-dir', tmp_path, '--cfg-options', 'train_cfg.max_epochs=1',
        'train_dataloader.batch_size=8',
        f'train_dataloader.dataset.data_root={small}',
        'custom_hooks.1.num_images=4', 'custom_hooks.1.num_steps=2',
    )  # fmt: skip
    assert {path.name for path in (tmp_path / 'teacher').iterdir()} == {
        'config.json',
        'diffusion_pytorch_model.safetensors',
        'scheduler_config.json',
    }
    assert list(tmp_path.rglob('samples_1.png'))


def test_demo_runs_whole_from_scratch(tmp_path, monkeypatch):
    """All of the demo's steps, shortened to one epoch or two iterations."""
    build_runner = demo.build_runner

    def short(argv):
        length = 'max_epochs=1'
        if 'finetune' in argv[0]:
            length = 'max_iters=2'
            argv = [*argv, 'train_cfg.val_interval=2']
        return build_runner([*argv, f'train_cfg.{length}'])

    monkeypatch.setattr(demo, 'build_runner', short)
    monkeypatch.setattr(demo, 'BUDGETS', (50,))
    monkeypatch.setattr(demo, 'GRID', (0, 999))
    monkeypatch.setattr(
        sys, 'argv', ['demo.py', '--from-scratch', '--seeds', '2']
    )
    monkeypatch.chdir(tmp_path)
    demo.main()
    out = tmp_path / 'work_dirs' / 'demo'
    results = json.loads((out / 'results.json').read_text())
    assert set(results['labels']) == {'50'}
    assert len(results['labels']['50']['scratch']) == 2
    assert all(0 < a < 1 for a in results['labels']['50']['repfusion'])
    mean = results['policy']['timestep_mean']
    assert set(results['probe']) == {'0', '999', str(round(mean))}
    assert results['seconds']['teacher'] > 0
    assert (out / 'results.png').exists()
    page = (out / 'report.html').read_text()
    for text in ('Policy and probe', 'train_50.txt', 'commit of repfusion_mm'):
        assert text in page, text
    assert (out / 'teacher' / 'teacher' / 'config.json').exists()


RESULTS = dict(
    labels={
        '20': dict(scratch=[0.5, 0.6], repfusion=[0.8, 0.9]),
        '50': dict(scratch=[0.7, 0.7], repfusion=[0.9, 0.9]),
    },
    probe={'0': 0.8, '300': 0.9, '999': 0.7},
    policy=dict(timestep_mean=300.0, timestep_std=10.0),
)


def test_table_and_picture_show_the_results(tmp_path):
    table = demo_report.make_table(RESULTS)
    gains = list(table.columns[3].cells)
    assert gains == ['+0.300', '+0.200']
    assert next(iter(table.columns[1].cells)) == '0.550 (0.500 - 0.600)'
    record = dict(timesteps=[0, 300, 999], probabilities=[0.1, 0.8, 0.1])
    demo_report.plot(RESULTS, record, tmp_path / 'results.png')
    image = cv2.imread(str(tmp_path / 'results.png'))
    assert image.shape[1] == 1350
    assert image.std() > 10


def test_summary_says_where_the_policy_ended():
    text = demo_report.summarize(RESULTS)
    assert 't = 300.0 +- 10.0, linear probe there 0.900' in text
    assert 'its best: 0.900 at t = 300' in text


def test_moments_of_the_policy():
    record = dict(timesteps=[100, 300], probabilities=[0.5, 0.5])
    assert moments(record) == (200.0, 100.0)
